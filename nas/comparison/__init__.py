"""Codecs beside other codecs, formats and published curves: what `nas evaluate` does."""
