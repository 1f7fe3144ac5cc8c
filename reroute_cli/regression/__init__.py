"""Whether a report is worse than its baseline: gates, verdicts, and what they are told in. No torch."""
