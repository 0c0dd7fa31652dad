"""The Pareto front as people look at it: a figure and a page."""
