"""Files of weights: tensors by name, a run's checkpoints, and what other projects saved."""
