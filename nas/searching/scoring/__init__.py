"""The loss of architectures on calibration photos, exactly, and the files that keep it."""
