"""A module or room per pipeline stage, run as `python -m steps.<name>`; the registry; its gates."""
