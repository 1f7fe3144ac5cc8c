"""The search for the best schedule: found on one half of the pictures, reported on the other."""
