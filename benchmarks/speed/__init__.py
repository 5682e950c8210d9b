"""Frames a second, and what they are made of."""
