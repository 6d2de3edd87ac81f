"""The one error of this package."""


class SourceError(ValueError):
    """A source of scans that cannot be used; the message says what to do about it."""
