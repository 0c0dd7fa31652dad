"""Search spaces, network descriptions, layouts and budgets. Nothing here needs torch."""
