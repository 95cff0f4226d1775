"""How fast onesense is, as ratios: both sides of each comparison run interleaved, in one process."""
