"""vidsr: an anime episode, larger and sharper, with nothing else touched."""

__version__ = "0.1.0"
