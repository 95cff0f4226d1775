"""How the packaged data was made."""
