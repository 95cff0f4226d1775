"""How the packaged data was made: the sample text and the demo dictionaries. Not part of the wheel."""
