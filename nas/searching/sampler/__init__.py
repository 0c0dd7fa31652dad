"""Which architecture to score next: width logits, a surrogate of the loss, and the Optuna sampler."""
