"""Bytes of a scan to grey levels."""
