"""Pictures to try the tool on, and the programs that made them and the embedded model. Not part of the wheel."""
