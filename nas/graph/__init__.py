"""The networks in torch: layers, transforms, context model, entropy models and the supernet."""
