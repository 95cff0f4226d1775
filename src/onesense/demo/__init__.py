"""The packaged data of the embedded demo: dictionaries and sample text."""
