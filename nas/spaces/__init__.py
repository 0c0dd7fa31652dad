"""What may be built: search spaces, network descriptions, layouts, budgets. Nothing here needs torch."""
