"""Dictionaries (sparse autoencoders): read, check, write, train."""
