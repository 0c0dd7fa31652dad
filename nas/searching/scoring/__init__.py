"""Exact scores of architectures on calibration photos, and the files that store them."""
