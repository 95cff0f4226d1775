"""What the web page answers, a module for each part of it."""
