"""Keyed hashes of patients: the same person, recognisable in one site's data sets only.

A hash is HMAC-SHA-256 over the issuer and the Patient ID under the site's salt. Without the salt
nobody can find a patient from it, not even by trying every possible ID.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scans.errors import SourceError

SALT_VARIABLE = "CHEST_CT_PATIENT_SALT"
SALT_FILE = Path(".chest_ct_patient_salt")  # in the working directory; git ignores it
SALT_BYTES = 32
MIN_SALT_CHARACTERS = 16


@dataclass(frozen=True)
class PatientHasher:
    """Hashes patients under a salt that is read, or made, when the first patient turns up.

    Attributes:
        salt_file: where the salt is when CHEST_CT_PATIENT_SALT is not set; absolute, since worker
            processes use it as well.
    """

    salt_file: Path

    def __call__(self, patient_id: str, issuer: str = "") -> str | None:
        """Return 64 hexadecimal digits, or None for a patient without an ID.

        Args:
            patient_id: Patient ID (0010,0020).
            issuer: Issuer of Patient ID (0010,0021); the same ID of two issuers is two patients.

        Raises:
            SourceError: the salt cannot be read or made.
        """
        if not patient_id:
            return None
        # A null separates the two, since neither can hold one.
        message = f"{issuer}\0{patient_id}".encode()
        return hmac.new(_salt(self.salt_file), message, hashlib.sha256).hexdigest()


def patient_hasher(folder: Path | None = None) -> PatientHasher:
    """Return a hasher whose salt file lies in a folder, by default the working directory."""
    return PatientHasher((folder or Path.cwd()).absolute() / SALT_FILE)


@functools.lru_cache(maxsize=1)
def _salt_once(path: Path, variable: str | None) -> bytes:
    if variable is not None:
        if len(variable) < MIN_SALT_CHARACTERS:
            raise SourceError(
                f"Expected {SALT_VARIABLE} of at least {MIN_SALT_CHARACTERS} characters. Received: "
                f"{len(variable)}. Set a long random text, or unset it to use {SALT_FILE}."
            )
        return variable.encode("utf-8", "surrogateescape")
    try:
        if not path.exists():
            _make(path)
        mode, salt = path.stat().st_mode, path.read_bytes()
    except OSError as e:
        raise SourceError(
            f"The patients' salt {path} cannot be read or made: {e.strerror}. Check its owner and "
            f"mode, or set {SALT_VARIABLE}."
        ) from e
    if len(salt) < SALT_BYTES:
        raise SourceError(
            f"Expected at least {SALT_BYTES} bytes in the patients' salt {path}. Received: "
            f"{len(salt)}. Restore it from a copy; or delete it, and patients get new hashes."
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SourceError(
            f"The patients' salt {path} may be read by others (mode {stat.S_IMODE(mode):04o}). "
            f"Expected mode 0600: chmod 600 {path}"
        )
    return salt


def _salt(path: Path) -> bytes:
    return _salt_once(path, os.environ.get(SALT_VARIABLE))


def _make(path: Path) -> None:
    """Write a new salt, whole or not at all; another process or thread that is faster wins."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SALT_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        Path(part).unlink()
