"""What a borrowed NVIDIA card is good for."""
