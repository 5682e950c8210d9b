"""Generators: their architectures, their weights on disk, and the rewrites that make them fast."""
