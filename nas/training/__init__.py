"""Training of a supernet: data, strategies, learned structure, and the loop."""
