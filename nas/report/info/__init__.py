"""What a thing is, as fields, text and a drawing: runs, codecs, files, spaces, budgets, keys, layouts."""
