"""Convolutions compiled by TensorRT, and the engines that are kept."""
