"""What an external set shares with a model's own scans, and what its classes mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steps.errors import StageError
from steps.evaluation.external_set import ExternalScan, diseased, unseen
from steps.training.training_scans import TrainingScans

CLASSES = ("adenocarcinoma", "normal")
BASE = np.random.default_rng(0).integers(0, 256, (4, 32), dtype=np.uint8)


def _scan(number: int, label: str = "normal", **changes: object) -> ExternalScan:
    rng = np.random.default_rng(100 + number)
    fields: dict[str, object] = {
        "path": Path(label, f"{number}.png"),
        "label": label,
        "sha256": f"{number:064x}",
        "perceptual": rng.integers(0, 256, 32, dtype=np.uint8).tobytes(),
        "group": f"g{number}",
        "patient": "",
    }
    return ExternalScan(**(fields | changes))  # type: ignore[arg-type]


def _seen(**changes: object) -> TrainingScans:
    fields: dict[str, object] = {
        "sha256": np.array(["a" * 64, "b" * 64, "c" * 64, "d" * 64]),
        "perceptual": BASE,
        "patient": np.array(["", "p1", "", ""]),
        "group_distance_bits": 10,
    }
    return TrainingScans(**(fields | changes))  # type: ignore[arg-type]


def _bits_off(row: np.ndarray, bits: int) -> bytes:
    flat = np.unpackbits(row)
    flat[:bits] ^= 1
    return np.packbits(flat).tobytes()


def test_what_the_model_has_seen_is_left_out_with_its_reason() -> None:
    near = _bits_off(BASE[0], 8)
    chained = np.frombuffer(near, dtype=np.uint8)
    scans = [
        _scan(1),
        _scan(2, sha256="b" * 64),
        _scan(3, perceptual=near),
        _scan(
            4, perceptual=np.packbits(np.unpackbits(chained) ^ (np.arange(256) >= 248)).tobytes()
        ),
        _scan(5, patient="p1"),
        _scan(6, patient="p2"),
    ]
    kept, left_out = unseen(scans, _seen())
    assert [scan.path.as_posix() for scan in kept] == ["normal/1.png", "normal/6.png"]
    assert left_out == {"same bytes": 1, "near-duplicate": 2, "same patient": 1}


def test_nothing_left_is_one_sentence() -> None:
    with pytest.raises(StageError, match="None of the 1 scans is left"):
        unseen([_scan(1, sha256="a" * 64)], _seen())


def test_fingerprints_survive_the_file(tmp_path: Path) -> None:
    _seen().write(tmp_path / "scans.npz")
    read = TrainingScans.read(tmp_path / "scans.npz")
    assert read.group_distance_bits == 10
    assert (read.perceptual == BASE).all() and read.patient.tolist() == ["", "p1", "", ""]


def test_classes_of_the_model_and_disease_are_known() -> None:
    scans = [_scan(1), _scan(2, "disease"), _scan(3, "Adenocarcinoma")]
    assert diseased(scans, CLASSES, ("normal",)).tolist() == [False, True, True]


def test_an_unknown_class_shows_the_line_to_give() -> None:
    with pytest.raises(StageError, match=r'class benign.*class_patterns.*"benign=disease"'):
        diseased([_scan(1), _scan(2, "benign")], CLASSES, ("normal",))


def test_a_model_without_a_healthy_class_cannot_be_scored() -> None:
    with pytest.raises(StageError, match="none of which is healthy"):
        diseased([_scan(1, "left")], ("left", "right"), ())
