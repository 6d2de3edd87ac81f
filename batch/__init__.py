"""Batch scoring: every object under a prefix gets one row."""
