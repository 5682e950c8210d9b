"""Several generators trained at once on a rented GPU, in a quarter of an hour."""
