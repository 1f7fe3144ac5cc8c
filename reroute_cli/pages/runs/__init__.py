"""One file a kind of record: what a page says of it, as a section and as items of the gallery."""
