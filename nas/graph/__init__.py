"""The network: layers, transforms, the context model, the supernet."""
