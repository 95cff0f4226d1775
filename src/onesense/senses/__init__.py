"""How many senses a unit has, and giving each one of its own."""
