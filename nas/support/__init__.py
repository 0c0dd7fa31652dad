"""Basic parts for all rooms: errors, files, fields, limits, devices, progress."""
