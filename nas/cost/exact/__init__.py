"""Costs as exact quantities: limits on them, and what a space can reach within limits."""
