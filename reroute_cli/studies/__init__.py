"""What is found out by asking a model many questions: evaluations, and the questions themselves."""
