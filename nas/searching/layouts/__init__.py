"""Search for layouts that suit trained weights: greedy grouping, and learning with VIMCO."""
