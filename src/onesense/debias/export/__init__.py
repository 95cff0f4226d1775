"""Export: a recipe as an artefact that needs no hook, and the proof that the artefact does the same."""
