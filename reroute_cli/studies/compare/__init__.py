"""`reroute compare`: one report judged by another, gate by gate."""
