"""Figures, printed tables and the report page."""
