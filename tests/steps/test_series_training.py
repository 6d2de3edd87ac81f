"""What training fits for series: aggregation, attention, calibration, and labels of series."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from model.artefact import CARD, Card
from model.conformal import Conformal
from model.decision import HEALTHY
from model.preprocessing import Preprocessing
from model.series_answer import Attention, SeriesAnswer, aggregated
from scans.manifest import ManifestRow
from steps.errors import StageError
from steps.training.augmentation import Augmentation
from steps.training.calibration import Calibration, calibrate
from steps.training.head import HeadSettings
from steps.training.multiple_instance import telling_slices
from steps.training.record import RECORD, OutOfDomainRecord, TrainingRecord, read_record
from steps.training.series import SeriesFit, fit_curve, fit_series, group_shares
from steps.training.series_attention import fit_attention, principal_components
from steps.training.series_bags import Bags, bags_of, labels_are_of_series

CLASSES = ("adenocarcinoma", "normal")
SLICES = 10
SHOWN = (4, 5, 6)  # slices of a diseased patient that show the disease
HEAD = HeadSettings(
    epochs=1, batch_size=64, steps_per_epoch=0, learning_rate=0.1, l2=0.1, dropout=0.0,
    balanced_classes=True, patience=0,
)  # fmt: skip

VIEWS = Augmentation(
    views=0, flip=False, rotation_deg=0, shift=0, zoom=0, brightness=0, histogram_match=0,
    contrast=0,
)  # fmt: skip


def manifest_row(label: str, patient: str, number: int, series: str | None) -> ManifestRow:
    return ManifestRow(
        path=f"{patient}-{number}", label=label, sha256=f"{patient}-{number}", copies=1,
        group=patient, split="train", width=64, height=64, mode="MONOCHROME2", format="DICOM",
        patient=patient, series=series, position_mm=None if series is None else 5.0 * number,
    )  # fmt: skip


def patients(
    count: int, *, labels_of_series: bool = False, series: bool = True, seed: int = 0
) -> tuple[NDArray[np.float32], list[ManifestRow], NDArray[np.bool_]]:
    """Draw features of patients, every second one diseased.

    Returns:
        Features (scans, 1, 8), rows, and which slices show the disease.
    """
    rng = np.random.default_rng(seed)
    features, rows, shown = [], [], []
    for patient in range(count):
        own = rng.normal(0, 0.5, 8)
        for number in range(SLICES):
            shows = patient % 2 == 0 and number in SHOWN
            sick = shows or (labels_of_series and patient % 2 == 0)
            features.append(own + rng.normal(0, 0.5, 8) + 3.0 * shows * np.eye(8)[0])
            name = f"p{patient:02d}"
            rows.append(manifest_row(CLASSES[not sick], name, number, name if series else None))
            shown.append(shows)
    vectors = np.array(features, dtype=np.float32)[:, np.newaxis]
    return vectors, rows, np.array(shown)


def calibrated(vectors: NDArray[np.float32], rows: Sequence[ManifestRow]) -> Calibration:
    labels = np.array([CLASSES.index(row.label) for row in rows])
    return calibrate(
        vectors, labels, np.array([row.group for row in rows]), CLASSES, l2=HEAD.l2,
        balanced=True, sensitivity=0.9, seed=0, shrinkage=HEAD.shrinkage, healthy=[HEALTHY],
    )  # fmt: skip


def fitted(
    vectors: NDArray[np.float32],
    rows: Sequence[ManifestRow],
    kept: NDArray[np.bool_] | None = None,
) -> SeriesFit:
    some = np.ones(len(rows), dtype=bool) if kept is None else kept
    calibration = calibrated(vectors[some], [row for row, k in zip(rows, some, strict=True) if k])
    return fit_series(
        vectors, rows, calibration, CLASSES, [HEALTHY], HEAD, kept,
        spacing_mm=2.5, sensitivity=0.9, undecided_error_rate=0.1, seed=0,
    )  # fmt: skip


def test_a_fitted_aggregation_separates_patients_and_says_how_sure_it_is() -> None:
    vectors, rows, _ = patients(60)
    fit = fitted(vectors, rows)
    assert fit.answer is not None
    report = fit.report
    assert (report["series"], report["groups"], report["diseased_series"]) == (60, 60, 30)
    assert set(report["cross_validation"]) == {
        "maximum", "top_mean_2", "top_mean_3", "top_mean_5", "noisy_or", "attention",
    }  # fmt: skip
    chosen = report["cross_validation"][report["aggregation"]]
    assert chosen["auc"] > 0.95
    assert chosen["loss"] < 0.4 < np.log(2)
    assert report["sensitivity"]["value"] >= 0.9
    assert report["specificity"]["value"] > 0.8
    assert fit.answer.threshold == report["threshold"] <= 0.5
    assert fit.answer.conformal is not None
    assert fit.answer.conformal.error_rate == 0.1
    assert (fit.attention is not None) == (fit.answer.aggregation == "attention")
    assert fitted(vectors, rows) == fit  # one seed, one result


def test_series_without_signal_get_a_flat_probability() -> None:
    vectors, rows, _ = patients(40)
    noise = np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    report = fitted(noise, rows).report
    assert report["aggregation"] == "maximum"  # nothing better, so the simplest
    assert report["cross_validation"]["maximum"]["loss"] == pytest.approx(np.log(2), abs=0.2)


@pytest.mark.parametrize(
    ("count", "series", "reason"),
    [
        (20, False, "no scan says of which series it is"),
        (5, True, "2 patients have series without disease, fewer than 3"),
    ],
)
def test_where_nothing_is_known_of_series_nothing_is_fitted(
    count: int, series: bool, reason: str
) -> None:
    vectors, rows, _ = patients(count, series=series)
    fit = fitted(vectors, rows)
    assert (fit.answer, fit.attention) == (None, None)
    assert fit.report["reason"] == reason


def test_labels_of_series_leave_the_slices_that_show_the_disease() -> None:
    vectors, rows, shown = patients(40, labels_of_series=True)
    kept = telling_slices(vectors, rows, CLASSES, [HEALTHY], HEAD, seed=0)
    diseased = np.array([row.label == CLASSES[0] for row in rows])
    assert kept[~diseased].all()
    assert (kept & diseased).sum() == 20 * 2  # a fifth of ten slices
    assert shown[kept & diseased].mean() > 0.9  # of all diseased slices, 0.3
    fit = fitted(vectors, rows, kept)
    assert fit.report["series"] == 40
    assert fit.report["cross_validation"][fit.report["aggregation"]]["auc"] > 0.9


@pytest.mark.parametrize(
    ("of_series", "level", "expected"),
    [
        (True, "auto", True), (False, "auto", False), (True, "slice", False),
        (False, "series", True),
    ],
)  # fmt: skip
def test_what_labels_speak_of(of_series: bool, level: str, expected: bool) -> None:
    _, rows, _ = patients(6, labels_of_series=of_series)
    found = labels_are_of_series(rows, CLASSES, [HEALTHY], level)  # type: ignore[arg-type]
    assert found == expected


def test_single_pictures_have_labels_of_their_own() -> None:
    _, rows, _ = patients(6, series=False)
    assert not labels_are_of_series(rows, CLASSES, [HEALTHY], "auto")
    assert not labels_are_of_series(rows, CLASSES, [HEALTHY], "series")


def test_a_bag_is_diseased_if_one_slice_is_and_holds_what_thinning_leaves() -> None:
    labels = ["normal", "b", "normal", "normal", "a", "b"]
    rows = [manifest_row(label, "p", i, "s") for i, label in enumerate(labels)]
    thin = [dataclasses.replace(row, position_mm=float(i)) for i, row in enumerate(rows)]
    other = manifest_row("normal", "q", 0, None)
    bags = bags_of([*thin, other], ("a", "b", "normal"), ["normal"], spacing_mm=2.5)
    assert [m.tolist() for m in bags.members] == [[0, 3, 5]]
    assert (bags.label.tolist(), bags.sick.tolist()) == ([1], [True])
    assert bags.group.tolist() == ["p"]


def bags_with_distractors(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64], Bags]:
    """Draw bags where slices marked by feature 1 shout at random and the others know."""
    rng = np.random.default_rng(seed)
    sick = np.arange(80) % 2 == 0
    loud = rng.random((80, 6)) < 0.4
    logit = np.where(loud, rng.normal(0, 4, (80, 6)), rng.normal(0, 0.5, (80, 6)))
    logit += np.where(loud, 0, np.where(sick, 1.0, -1.0)[:, np.newaxis])
    features = rng.normal(0, 0.3, (480, 5)).astype(np.float32)
    features[:, 1] += 2.0 * loud.ravel()
    members = [np.arange(6 * bag, 6 * bag + 6) for bag in range(80)]
    names = np.array([str(bag) for bag in range(80)])
    return features, logit.ravel(), Bags(members, (~sick).astype(np.int64), sick, names)


def fitted_attention(
    features: NDArray[np.float32], logit: NDArray[np.float64], bags: Bags
) -> Attention:
    components = principal_components(features)
    layers = fit_attention(components.values(features), logit, bags, np.ones(80), seed=0)
    attention = layers.on_features(components)
    np.testing.assert_allclose(
        attention.logits(features), layers.logits(components.values(features)), atol=1e-4
    )
    return attention


def test_attention_learns_which_slices_to_listen_to() -> None:
    features, logit, bags = bags_with_distractors(0)
    attention = fitted_attention(features, logit, bags)
    fresh, other, new = bags_with_distractors(1)
    weight = attention.logits(fresh)
    scores = {
        name: [aggregated(other[m], weight[m], name) for m in new.members]
        for name in ("attention", "maximum", "noisy_or")
    }
    area = {name: roc_auc_score(new.sick, values) for name, values in scores.items()}
    assert area["attention"] > 0.95
    assert max(area["maximum"], area["noisy_or"]) < 0.85


def test_attention_survives_its_file(tmp_path: Path) -> None:
    assert Attention.read(tmp_path) is None
    features, logit, bags = bags_with_distractors(0)
    attention = fitted_attention(features, logit, bags)
    attention.write(tmp_path)
    read = Attention.read(tmp_path)
    assert read is not None
    np.testing.assert_array_equal(read.logits(features), attention.logits(features))


def test_the_curve_is_calibrated_and_never_falls() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(0, 2, 4000)
    sick = rng.random(4000) < 1 / (1 + np.exp(-(0.5 * score - 1)))
    slope, intercept = fit_curve(score, sick, np.ones(4000))
    assert slope == pytest.approx(0.5, abs=0.06)
    assert intercept == pytest.approx(-1, abs=0.1)
    assert fit_curve(-score, sick, np.ones(4000))[0] == 0
    # Told apart wholly, and still not certain.
    apart = np.array([-1.0, -1.0, 1.0, 1.0])
    slope, intercept = fit_curve(apart, apart > 0, np.ones(4))
    assert 1 / (1 + np.exp(-slope - intercept)) == pytest.approx(0.75, abs=0.01)


def test_patients_weigh_the_same_however_many_series_they_have() -> None:
    weights = group_shares(np.array(["a", "b", "b", "b"]))
    assert weights[0] == pytest.approx(weights[1:].sum())
    assert weights.mean() == pytest.approx(1)


def test_a_record_without_series_is_of_an_older_training_and_refused(tmp_path: Path) -> None:
    record = TrainingRecord(
        head=HEAD, augmentation=VIEWS, seed=0, fine_tuned_blocks=0, sensitivity=0.9,
        calibration={}, out_of_domain=OutOfDomainRecord(1.0, 1, 0.02), series={"labels": "slice"},
    )  # fmt: skip
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    older = json.loads((tmp_path / RECORD).read_text())
    del older["series"]
    (tmp_path / RECORD).write_text(json.dumps(older))
    with pytest.raises(StageError, match=r"another version of training .* Run training again"):
        read_record(tmp_path)


def test_a_card_keeps_how_series_are_answered(tmp_path: Path) -> None:
    answer = SeriesAnswer("top_mean", 3, 1.5, -0.25, 0.25, Conformal(0.1, (0.5, 0.75)))
    card = Card(CLASSES, Preprocessing(), "f32", "0" * 64, phantom=True, series=answer)
    card.write(tmp_path)
    assert Card.read(tmp_path) == card
    fields = json.loads((tmp_path / CARD).read_text())
    del fields["series"], fields["series_spacing_mm"]  # as cards were before there were series
    (tmp_path / CARD).write_text(json.dumps(fields))
    assert Card.read(tmp_path).series is None
