"""What every room stands on: errors, files, fields, limits, devices, progress."""
