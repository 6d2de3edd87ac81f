"""Stage 3: features once, the head on them, and one pyfunc."""
