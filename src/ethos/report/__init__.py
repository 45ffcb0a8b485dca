"""A finished run as a page and as text; reads files and nothing else."""
