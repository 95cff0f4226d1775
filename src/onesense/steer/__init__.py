"""Edits and recipes, applied to a model while it runs."""
