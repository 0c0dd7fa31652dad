"""Scoring architectures one by one, with one worker or with several that share a storage."""
