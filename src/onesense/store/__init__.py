"""Files that survive: atomic writes, locks, run folders, the catalogue."""
