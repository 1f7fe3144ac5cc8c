"""What a report says to a person, as plain blocks of text that a terminal or a Markdown page draws alike."""
