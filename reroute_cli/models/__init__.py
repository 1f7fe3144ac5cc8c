"""Models: where their files are, how they are loaded, and models made of random numbers."""
