"""Versions in the MLflow registry and their moves between stages."""
