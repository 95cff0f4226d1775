"""A feature with several senses becomes several features: children, their tuning, and which are accepted."""
