"""What every command shares: options, errors, output, and numbers as people read them."""
