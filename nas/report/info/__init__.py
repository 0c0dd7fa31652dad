"""`nas info`: a thing as fields, text and a drawing. Runs, codecs, files, spaces, budgets, keys, layouts."""
