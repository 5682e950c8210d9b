"""Pictures against their originals."""
