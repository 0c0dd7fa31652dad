"""Which architectures to score next: logits, the surrogate of the loss, the Optuna sampler."""
