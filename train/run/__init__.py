"""One training: checkpoints, journal, signals, export."""
