"""How well an explanation tells where a feature fires."""
