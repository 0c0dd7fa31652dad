"""Exported codecs: plain layers, their own weights, real bitstreams; no supernet."""
