"""Where every visual token went: traced arms, the places of tokens on the picture, and the figure of both."""
