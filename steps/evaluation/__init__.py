"""Stage 4: the pyfunc, scored."""
