"""Pictures to try the tool on, and the programs that made them and the embedded model. Not in the wheel."""
