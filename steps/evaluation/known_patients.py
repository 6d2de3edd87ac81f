"""How many scans of a data set have a known patient, and so what its scores are about."""

from __future__ import annotations

from collections.abc import Sequence

from scans.manifest import ManifestRow


def known_patients(rows: Sequence[ManifestRow]) -> dict[str, int]:
    """Count the distinct scans, those whose patient is known, and the patients.

    Returns:
        `scans`, `with_known_patient` and `patients`.
    """
    patients = [row.patient for row in rows if row.patient is not None]
    return {
        "scans": len(rows),
        "with_known_patient": len(patients),
        "patients": len(set(patients)),
    }
