"""onesense: find a language model's gender-bias features, give each one sense, tune them, prove it."""

__version__ = "0.1.0"
