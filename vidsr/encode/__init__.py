"""Frames to a segment file."""
