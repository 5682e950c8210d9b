"""What all benchmarks share: the machine, clips, pictures, charts, metrics."""
