"""A study's finished cells to study.html, study.md and exports: read, compared, drawn."""
