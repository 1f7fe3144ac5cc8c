"""reroute inside of other programs: their ways of asking, onto the engine of run/batch.py."""
