"""Losses, quality of pictures, rate-distortion curves, and Pareto fronts."""
