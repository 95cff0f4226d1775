"""Language models behind an OpenAI-compatible address."""
