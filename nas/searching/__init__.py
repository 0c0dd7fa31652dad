"""The search: from a trained supernet to the Pareto front and the answers to targets."""
