"""Constitution and recorded rows to training records."""
