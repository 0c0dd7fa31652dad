"""The cost of an architecture in multiply-adds (MACs), and the costs that a space can reach."""
