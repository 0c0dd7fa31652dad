"""From a trained supernet to the Pareto front."""
