"""Anime-like pictures and short videos, drawn by program."""
