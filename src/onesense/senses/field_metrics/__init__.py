"""Published measures of monosemanticity, computed on the same dictionaries for comparison."""
