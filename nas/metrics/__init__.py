"""What is measured of a picture and a file: losses, quality, curves."""
