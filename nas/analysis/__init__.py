"""Analyses of a run: the rank check, the sensitivity table of an architecture, and the probes."""
