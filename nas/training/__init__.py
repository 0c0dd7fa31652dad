"""Training a supernet: data, strategies, structure, the loop."""
