"""What records look like: a document for each kind of record, and writers that write any document."""
