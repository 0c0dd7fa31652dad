"""Networks and layouts, drawn and written out."""
