"""A finished run's training rows: looked at, counted, on a page, in other trainers' formats."""
