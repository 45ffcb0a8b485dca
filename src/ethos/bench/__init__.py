"""Claims: what is measured of a subject, and when a claim is refuted."""
