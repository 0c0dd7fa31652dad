"""Tables of MACs: fvcore measures each layer once at each combination of its widths."""
