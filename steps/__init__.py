"""A module or a room per pipeline stage, run as `python -m steps.<name>`; the registry; its gates."""
