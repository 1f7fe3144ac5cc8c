"""`reroute profile` behind its options: the work, the measuring loop, and the report they make."""
