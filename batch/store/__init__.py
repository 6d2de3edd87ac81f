"""The output's files and its lock."""
