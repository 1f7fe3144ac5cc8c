"""Reports and comparisons in the formats of other tools, one file a format: a record in, a string out."""
