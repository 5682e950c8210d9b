"""What reuse of still areas saves, and what it does to the picture."""
