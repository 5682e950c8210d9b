"""Only what moves is computed."""
