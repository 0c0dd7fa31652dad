"""From a trained supernet to the Pareto front: learned logits, greedy layouts, Optuna trials."""
