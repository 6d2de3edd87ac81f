"""Measurements that anyone can repeat; see the head of each script."""
