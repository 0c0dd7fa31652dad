"""Time and memory, measured on a machine and predicted for every architecture."""
