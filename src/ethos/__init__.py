"""ethos: train a language model's character from a constitution, and show whether it holds."""

__version__ = "0.1.0"
