"""Probes of a trained codec: where activations are redundant, and where better ones would help."""
