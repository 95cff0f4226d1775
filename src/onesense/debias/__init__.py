"""Debias: find the features that carry gender bias, tune them, prove what happened, export the model."""
