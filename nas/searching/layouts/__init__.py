"""Layouts found for trained weights: merged greedily, or learned."""
