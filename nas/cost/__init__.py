"""What an architecture costs in multiply-adds."""
