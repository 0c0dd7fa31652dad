"""What a run can be asked: how well it ranks, what one step in each slot costs, where capacity lies."""
