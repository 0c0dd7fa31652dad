"""The Pareto front as a figure and as a page."""
