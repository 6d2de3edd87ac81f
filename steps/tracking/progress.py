"""What a person sees while a stage works."""

from __future__ import annotations

import click


def print_progress(message: str) -> None:
    """Print progress to standard error, where it cannot mix with a command's results."""
    click.echo(message, err=True)
