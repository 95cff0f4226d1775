"""What a recipe is compared with: other bases, linear erasures, random features, reconstruction."""
