"""What follows from the tables: sums, and what a space can reach under limits."""
