"""The record of a training: metrics, curves, preview pictures, and the remaining time."""
