"""One function for every command: the public functions of `nas`."""
