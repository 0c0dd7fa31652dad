"""Photos: reading and writing them."""
