"""Objectives, the loop, adapters."""
