"""What results look like in a terminal: Rich draws, nothing is interpreted as markup."""
