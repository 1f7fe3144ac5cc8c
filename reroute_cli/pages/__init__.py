"""The HTML report: records of any command in, one self-contained page out. Knows no model and no torch."""
