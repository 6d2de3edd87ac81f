"""The report says what scores.json says, and needs no other file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scans.manifest import ManifestRow
from steps.evaluation.context_plots import write_contact_sheet, write_reliability, write_stress
from steps.evaluation.known_patients import known_patients
from steps.evaluation.report import write_report

MEASURE = {"mean": 0.9412, "spread": 0.013, "ci95": [0.871, 0.982]}
MODEL = dict.fromkeys(
    ("accuracy", "balanced_accuracy", "roc_auc", "sensitivity", "specificity"), MEASURE
)
SERVED = MODEL | {"balanced_accuracy": {"mean": 0.9577, "spread": 0.01, "ci95": [0.9, 0.98]}}
SCORED = {
    "what": "<b>files</b>",
    "scans": 40,
    "model": MODEL,
    "baselines": {"majority": {"balanced_accuracy": {"mean": 0.5}}},
}
BEFORE_AFTER = {k: {"ece": 0.1, "brier": 0.2, "loss": 0.3} for k in ("before", "after")}
PROPORTION = {"value": 0.95, "ci95": [0.9, 0.99], "n": 30}


def scores(phantom: bool = False) -> dict[str, Any]:
    row = {
        "balanced_accuracy": 0.8123, "accuracy": 0.9, "roc_auc": None, "same_answer": 0.9,
        "flagged_out_of_domain": 0.0,
    }  # fmt: skip
    return {
        "n": 50, "accuracy": 0.96, "accuracy_ci95": [0.9, 1.0], "balanced_accuracy": 0.9312,
        "balanced_accuracy_ci95": [0.8321, 0.97], "roc_auc_ci95": None,
        "roc_auc": 0.99, "phantom": phantom, "sensitivity": PROPORTION, "specificity": None,
        "calibration": {
            "held_out_groups": {
                "temperature": 1.3, "scans": 199, "threshold": 0.6123, "stated_sensitivity": 0.95,
                "threshold_spread": [0.5, 0.7], "sensitivity": PROPORTION,
                "specificity": PROPORTION, **BEFORE_AFTER,
            },
            "test": BEFORE_AFTER,
        },
        "out_of_domain": {
            "threshold": 0.53, "references": 398, "test_scans_flagged": 0.02, "test_scans": 50,
            "detected": 1.0, "kinds": {"text": {"detected": 1.0, "n": 8}},
        },
        "stress": {"rows": {"gamma 1.6": row}, "worst": {"row": "gamma 1.6", **row}},
        "protocol": {
            "protocols": dict.fromkeys(("tutorial", "random_files", "distinct_images"), SCORED)
            | {"grouped": SCORED | {"model_at_threshold": SERVED}},
            "fine_tuned_blocks": 0, "group_distance_bits": 40,
            "flagged_held_out": {"mean": 0.0123, "spread": 0.004},
            "leave_one_source_out": {
                "iq": {"trained_on": ["kaggle"], "scans": 300, "groups": 90,
                       "roc_auc": {"value": 0.8768, "ci95": [0.81, 0.93]}},
            },
            "shortcut_audit": {
                "sources": {}, "source_from_features": {"balanced_accuracy": 0.991, "chance": 0.5},
                "class_from_source": {"balanced_accuracy": 0.61, "chance": 0.5},
                "class_from": {"brightness": {"balanced_accuracy": 0.733, "chance": 0.5},
                               "framing": None},
            },
            "distances": {"40": {"groups": 206, "largest_group": 14, "model": MODEL,
                                 "model_at_threshold": SERVED}},
        },
    }  # fmt: skip


def test_report_is_one_whole_page(tmp_path: Path) -> None:
    write_reliability(
        tmp_path, np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), 2
    )
    write_report(tmp_path, scores())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "0.931",
        "(0.832–0.970)",
        "0.941",
        "<b>0.958</b>",
        "0.012 ± 0.004",
        "0.812",
        "0.6123",
        "gamma 1.6",
        "not a medical device",
        "206",
    ):
        assert text in page
    assert "<b>files</b>" not in page  # escaped
    assert "data:image/png;base64," in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "synthetic" not in page


def test_report_says_when_on_what_and_by_which_run(tmp_path: Path) -> None:
    facts = {
        "evaluated_at": "2026-11-26 21:40 UTC", "run_id": "abc123", "run_name": "evaluation · x",
        "code": "c0ffee", "model_digest": "d" * 64, "data_digest": "e" * 64, "source": "scans.zip",
        "distinct": 249, "groups": 206, "splits": {"train": 175, "validation": 24, "test": 50},
    }  # fmt: skip
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    write_report(tmp_path, scores())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in ("2026-11-26 21:40 UTC", "abc123", "d" * 64, "scans.zip: 249 distinct"):
        assert text in page
    assert page.count("<main>") == page.count("</main>") == 1
    assert "All " in page and "<td>protocol.protocols.grouped.scans</td>" in page


def test_every_headline_number_has_its_interval(tmp_path: Path) -> None:
    full = scores() | {"roc_auc_ci95": [0.951, 0.999], "specificity": PROPORTION}
    full["out_of_domain"] |= {"detected_ci95": [0.9, 1.0], "test_scans_flagged_ci95": [0.0, 0.1]}
    full["stress"]["rows"]["gamma 1.6"]["balanced_accuracy_ci95"] = [0.7, 0.88]
    write_report(tmp_path, full)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    remember = page[page.index("What to remember") : page.index("Test split</h2>")]
    numbers = re.findall(r"<b>(\d\.\d{3})</b>(?: \((\d\.\d{3})–(\d\.\d{3})\))?", remember)
    assert len(numbers) >= 7
    assert all(low and high for _, low, high in numbers), numbers


def test_report_says_where_calibration_made_things_worse(tmp_path: Path) -> None:
    worse = scores()
    worse["calibration"] = worse["calibration"] | {
        "test": {
            "before": BEFORE_AFTER["before"],
            "after": {"ece": 0.1333, "brier": 0.1, "loss": 0.3},
        }
    }
    write_report(tmp_path, worse)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "On the test split <b>the calibration made things worse</b>: ECE 0.100 → 0.133" in page
    write_report(tmp_path, scores())
    assert "made things worse" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_shows_what_it_got_wrong(tmp_path: Path) -> None:
    (tmp_path / "gallery").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "gallery" / "00.jpg")
    scan = {
        "picture": "gallery/00.jpg", "sha256": "ab12cd34" + "0" * 56, "actual": "normal",
        "label": "adeno<carcinoma>", "probability": 0.9, "p_disease": 0.9, "threshold": 0.32,
        "distance": 0.58, "wrong": True, "out_of_domain": False, "undecided": True,
    }  # fmt: skip
    index = {"wrong": 3, "scans": 50, "shown": [scan]}
    (tmp_path / "gallery.json").write_text(json.dumps(index))
    write_report(tmp_path, scores())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "3 of 50 test scans got a wrong answer" in page
    assert "Wrong, the surest first: 1 of 3" in page
    assert "<b>adeno&lt;carcinoma&gt;</b>, is <b>normal</b>" in page
    assert "p of disease 0.900, threshold 0.320; undecided" in page
    assert 'src="data:image/jpeg;base64,' in page and "ab12cd34</code>" in page


def test_report_says_what_carries_over_between_sources(tmp_path: Path) -> None:
    write_report(tmp_path, scores())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "0.877" in page and "(0.810–0.930)" in page
    assert "0.991" in page and "brightness alone" in page and "framing alone" not in page
    alone = scores()
    alone["protocol"]["leave_one_source_out"] = None
    write_report(tmp_path, alone)
    assert "external_evaluation" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_shows_external_scores_beside_its_own(tmp_path: Path) -> None:
    measure = {"value": 0.7123, "ci95": [0.61, 0.79]}
    outside: dict[str, Any] = dict.fromkeys(
        ("roc_auc", "sensitivity", "specificity", "balanced_accuracy"), measure
    )
    outside |= {"name": "elsewhere", "n": 300, "groups": 90, "out_of_domain": {"all": measure}}
    write_report(tmp_path, scores(), [outside])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    own, other = page.index("its own test split"), page.index("elsewhere<br>")
    assert own < other < page.index("What to remember")
    assert page.count("0.712 (0.610–0.790)") == 4
    assert "scored on no scans from elsewhere" not in page
    write_report(tmp_path, scores())
    assert "scored on no scans from elsewhere" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("left_out", ["stress", "protocol"])
def test_report_without_what_was_switched_off(tmp_path: Path, left_out: str) -> None:
    write_report(tmp_path, scores(phantom=True) | {left_out: None})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "synthetic" in page
    assert ("Shortcut stress tests" in page) == (left_out != "stress")
    assert ("Baselines" in page) == (left_out != "protocol")


@pytest.mark.parametrize(
    ("known", "said", "unseen"),
    [
        (249, "all 249 scans is known: 31 patients", True),
        (200, "the patient of 200 of 249 scans is known", False),
        (0, "the set names no patients", False),
    ],
)
def test_what_is_said_of_unseen_patients(
    tmp_path: Path, known: int, said: str, unseen: bool
) -> None:
    patients = {"scans": 249, "with_known_patient": known, "patients": 31 if known else 0}
    write_report(tmp_path, scores() | {"patients": patients})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert said in page
    assert ("No number here is about unseen patients" in page) != unseen
    assert ("whom the model has not seen" in page) == unseen


def test_known_patients_are_counted() -> None:
    rows = [
        ManifestRow(f"{i}.png", "normal", str(i), 1, "a", "train", 64, 48, "L", "PNG", patient)
        for i, patient in enumerate(("p", "q", "p", None))
    ]
    assert known_patients(rows) == {"scans": 4, "with_known_patient": 3, "patients": 2}


def test_tables_for_plots(tmp_path: Path) -> None:
    write_stress(tmp_path, scores()["stress"])
    assert (tmp_path / "stress.csv").read_text().splitlines()[1].startswith("gamma 1.6,0.8123,")
    write_stress(tmp_path, {})
    assert len((tmp_path / "stress.csv").read_text().splitlines()) == 1


def test_contact_sheet_has_a_line_per_group_of_several(tmp_path: Path) -> None:
    rows = []
    for i, group in enumerate("aabbbc"):
        Image.new("L", (64, 48), 40 * i).save(tmp_path / f"{i}.png")
        rows.append(
            ManifestRow(f"{i}.png", "normal", str(i), 1, group, "train", 64, 48, "L", "PNG")
        )
    write_contact_sheet(tmp_path, tmp_path, rows)
    sheet = np.asarray(Image.open(tmp_path / "near_duplicates.png"))
    assert sheet.shape == (2 * 112, 6 * 112)
    assert sheet[56, [56, 168, 280, 392]].tolist() == [80, 120, 160, 255]


def test_contact_sheet_says_when_every_scan_is_its_own_group(tmp_path: Path) -> None:
    row = ManifestRow("0.png", "normal", "0", 1, "a", "train", 64, 48, "L", "PNG")
    write_contact_sheet(tmp_path, tmp_path, [row])
    sheet = np.asarray(Image.open(tmp_path / "near_duplicates.png"))
    assert sheet.shape == (112, 6 * 112)
    assert sheet.min() < 128  # a sentence, not an empty sheet
