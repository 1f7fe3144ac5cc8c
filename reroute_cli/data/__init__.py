"""What is asked about: images, items, and the files that they come from."""
