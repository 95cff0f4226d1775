"""Load a dictionary: packaged, from a folder of any known format, or from the SAELens registry."""
