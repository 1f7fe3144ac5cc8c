"""What schedules do to answers: the same items under every schedule, judged and compared pair by pair."""
