"""Generators to be trained, and how they begin."""
