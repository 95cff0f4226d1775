"""The local web page: look at features, steer, tune by hand, read the evidence."""
