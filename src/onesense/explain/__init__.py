"""Say in words what a feature is, and score the saying."""
