"""What other people's evaluation programs load by entry point: so far lmms-eval's model `reroute`.

Only they import what is in here, and only `lmms_model` imports them.
"""
