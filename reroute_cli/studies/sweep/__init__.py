"""`reroute sweep`: methods, actions and amounts side by side, scores against measured costs."""
