"""Answers: one, or a batch of them through one engine, and trials of several schedules."""
