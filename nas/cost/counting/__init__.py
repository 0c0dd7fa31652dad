"""Multiply-adds measured by fvcore, once for each layer, and tables of them."""
