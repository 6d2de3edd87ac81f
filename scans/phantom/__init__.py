"""Synthetic chest CT slices."""
