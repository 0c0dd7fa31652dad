"""Comparison of codecs with each other, with formats, and with published curves."""
