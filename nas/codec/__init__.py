"""Exported codecs: plain layers with their own weights, real bitstreams, and no supernet."""
