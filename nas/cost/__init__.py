"""What an architecture costs: multiply-adds measured by fvcore, then looked up."""
