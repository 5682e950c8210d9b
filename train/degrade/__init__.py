"""What stands between an original and what a source shows of it."""
