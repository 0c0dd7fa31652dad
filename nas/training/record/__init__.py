"""What a training tells of itself: metrics, curves, pictures, the time that is left."""
