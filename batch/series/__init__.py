"""From the rows of slices to one row per series."""
