"""How the number of senses of a unit and the gender bias that it carries go together."""
