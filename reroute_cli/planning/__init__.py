"""What a schedule costs by arithmetic, from a model's shape and a picture's size: no weights, no torch."""
