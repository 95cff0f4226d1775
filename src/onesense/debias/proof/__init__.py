"""A recipe against other ways of changing the model: on held-out data, at equal cost."""
