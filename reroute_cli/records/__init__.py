"""What is written down, as pydantic models, one file a kind: an answer, a report, a comparison. No torch."""
