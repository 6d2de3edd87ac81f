"""Measurements anyone can repeat. Each prints a table with ratios taken in one run."""
