"""Codecs measured, and set beside other codecs, formats and published curves."""
