"""lmms-eval's model `reroute`, loaded by its entry point: only lmms-eval imports model.py."""
