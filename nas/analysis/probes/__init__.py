"""Probes of a trained codec: where its activations are redundant, and where better ones would help."""
