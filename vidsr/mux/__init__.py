"""The final container: what is kept of the source, and how."""
