"""Time and memory on this machine, measured and predicted."""
