"""What a searched run can be asked: how well it ranks, and what one step in each slot costs."""
