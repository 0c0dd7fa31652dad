"""Drawings of networks and layouts, as pictures and as text."""
