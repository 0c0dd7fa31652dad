"""Training a supernet: data, strategies, losses, the loop, checkpoints."""
