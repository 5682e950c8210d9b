"""The compile workshop: engines for NVIDIA cards. Empty so far; the engines come with the TensorRT backend."""
