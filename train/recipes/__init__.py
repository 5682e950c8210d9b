"""The trainings: losses, networks, optimisers, loops."""
