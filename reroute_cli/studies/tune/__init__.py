"""`reroute tune`: the search for a schedule on one half of the images, and its scores on the other half."""
