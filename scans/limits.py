"""How much a source of scans may hold, checked before and while its bytes are written."""

from __future__ import annotations

from dataclasses import dataclass

from scans.errors import SourceError


@dataclass(frozen=True)
class Limits:
    """The most that one source may hold.

    Attributes:
        max_files: files in the source, of any kind.
        max_total_bytes: all files together, unpacked; a download may not be larger either.
        max_file_bytes: one file, unpacked.
    """

    max_files: int = 100_000
    max_total_bytes: int = 10_000_000_000
    max_file_bytes: int = 200_000_000

    def __post_init__(self) -> None:
        """Refuse limits that nothing could satisfy."""
        for name in ("max_files", "max_total_bytes", "max_file_bytes"):
            if getattr(self, name) < 1:
                raise SourceError(f"Expected {name} of at least 1. Received: {getattr(self, name)}")

    def check_files(self, files: int, where: str) -> None:
        """Raise SourceError when a source has too many files."""
        if files > self.max_files:
            raise SourceError(
                f"{where} holds {files:,} files, more than max_files={self.max_files:,}. "
                "Raise max_files if these really are scans."
            )

    def check_total(self, size_bytes: int, where: str) -> None:
        """Raise SourceError when all files together are too large."""
        if size_bytes > self.max_total_bytes:
            raise SourceError(
                f"{where} holds at least {size_bytes:,} bytes, more than "
                f"max_total_bytes={self.max_total_bytes:,}. "
                "Raise max_total_bytes if these really are scans."
            )

    def check_file(self, size_bytes: int, where: str) -> None:
        """Raise SourceError when one file is too large."""
        if size_bytes > self.max_file_bytes:
            raise SourceError(
                f"{where} is at least {size_bytes:,} bytes, more than "
                f"max_file_bytes={self.max_file_bytes:,}. "
                "Raise max_file_bytes if it really is one scan."
            )
