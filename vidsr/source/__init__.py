"""What is in the source file, and its frames."""
