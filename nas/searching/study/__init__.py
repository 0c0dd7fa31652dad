"""Scoring one architecture after another, by one worker or by several that share a storage."""
