"""Analyses of a run: the rank check, the cost table of an architecture, and the probes."""
