"""The only code that asks a model for text."""
