"""Writers of documents: terminal, Markdown, CSV, HTML, and what continuous integration reads."""
