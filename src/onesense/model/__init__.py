"""The language model layer: load, hook points, capture, hooks."""
