"""Files of weights: the toolkit's tensors by name, checkpoints of runs, and weights of other projects."""
