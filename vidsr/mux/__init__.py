"""The only writer of the final container."""
