"""What records look like: in a terminal, in documents, and for other tools."""
