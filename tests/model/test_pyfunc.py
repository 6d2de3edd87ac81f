"""The pyfunc's contract: a row per scan, in order, whatever the scan and however it is sent."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from PIL import Image

from tests.model.tiny import Tiny

COLUMNS = ["label", "probability", "p_adenocarcinoma", "p_normal", "error"]


def predict(model: Any, images: list[Any], params: dict[str, Any] | None = None) -> Any:
    return model.predict(pd.DataFrame({"image": images}), params=params)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_row_per_scan_in_order_with_probabilities_that_sum_to_one(
    model: Any, scans: list[bytes]
) -> None:
    rows = predict(model, scans)
    assert list(rows.columns)[: len(COLUMNS)] == COLUMNS
    assert len(rows) == len(scans)
    assert rows["error"].isna().all()
    assert rows[["p_adenocarcinoma", "p_normal"]].sum(axis=1).to_numpy(float) == pytest.approx(1)
    alone = pd.concat([predict(model, [scan]) for scan in scans[:5]], ignore_index=True)
    np.testing.assert_allclose(
        alone["p_normal"].to_numpy(float), rows["p_normal"][:5].to_numpy(float), atol=1e-6
    )
    backwards = predict(model, scans[::-1])
    np.testing.assert_allclose(
        backwards["p_normal"].to_numpy(float)[::-1], rows["p_normal"].to_numpy(float), atol=1e-6
    )


def test_a_bad_scan_never_costs_its_neighbours_their_answer(model: Any, scans: list[bytes]) -> None:
    bad = [b"no picture", scans[0][: len(scans[0]) // 2], None, "not base64 !", b"", 7]
    images = [x for pair in zip(bad, scans[: len(bad)], strict=True) for x in pair]
    rows = predict(model, images)
    assert rows["error"].notna().tolist() == [True, False] * len(bad)
    expected = predict(model, scans[: len(bad)])
    np.testing.assert_allclose(
        rows["p_normal"][1::2].to_numpy(float), expected["p_normal"].to_numpy(float), atol=1e-6
    )
    others = rows.drop(columns=["error", "error_code"])[0::2]
    assert all(value is None for value in others.to_numpy().ravel())


def test_only_bad_scans_and_no_scans_at_all(model: Any) -> None:
    rows = predict(model, [b"no", None])
    assert rows["error"].notna().all()
    assert rows["label"].tolist() == [None, None]
    # Of type object: pandas takes an empty list for numbers, which MLflow refuses in a text column.
    none = model.predict(pd.DataFrame({"image": pd.Series([], dtype=object)}))
    assert list(none.columns)[: len(COLUMNS)] == COLUMNS
    assert len(none) == 0


def test_bytes_and_base64_give_the_same_row(model: Any, scans: list[bytes]) -> None:
    scan = scans[0]
    wrapped = base64.encodebytes(scan).decode()
    forms = [scan, text(scan), wrapped, f"data:image/png;base64,{text(scan)}"]
    rows = predict(model, forms)
    assert rows["error"].isna().all()
    assert rows["p_normal"].nunique() == 1


def bodies(images: list[str | None]) -> list[tuple[str, str]]:
    """Return the same request in every form MLflow takes, with its content type.

    A bare list of texts is not among them: MLflow takes it for models of one column only.
    """
    records = [{"image": image} for image in images]
    table: dict[str, Any] = {"columns": ["image"], "data": [[image] for image in images]}
    forms: list[dict[str, Any]] = [
        {"dataframe_records": records},
        {"dataframe_split": table},
        {"instances": records},
        {"inputs": {"image": images}},
        {"inputs": records},
    ]
    return [(json.dumps(form), "application/json") for form in forms]


def test_every_form_of_request_gives_the_rows_that_python_gives(
    model: Any, scans: list[bytes]
) -> None:
    images = [text(scan) for scan in scans[:3]]
    expected = predict(model, scans[:3]).to_dict("records")
    schema = model.metadata.get_input_schema()
    csv = pd.DataFrame({"image": images}).to_csv(index=False)
    for body, content_type in [*bodies(images), (csv, "text/csv")]:
        answer = invocations(body, content_type, model, schema)
        assert answer.status == 200, body[:80]
        for row, wanted in zip(json.loads(answer.response)["predictions"], expected, strict=True):
            assert row["label"] == wanted["label"], body[:80]
            assert row["p_normal"] == pytest.approx(wanted["p_normal"], abs=1e-6)


def test_missing_values_are_null_and_never_nan(model: Any, scans: list[bytes]) -> None:
    schema = model.metadata.get_input_schema()
    for body, content_type in bodies([text(scans[0]), "broken", None]):
        answer = invocations(body, content_type, model, schema).response
        rows = json.loads(answer, parse_constant=lambda name: pytest.fail(f"{name} in the answer"))
        assert [row["error"] is None for row in rows["predictions"]] == [True, False, False]
        assert rows["predictions"][1]["probability"] is None


def test_a_wrong_column_is_refused_naming_the_right_one(model: Any) -> None:
    with pytest.raises(MlflowException, match=r"missing inputs \['image'\]"):
        model.predict(pd.DataFrame({"picture": ["x"]}))


def test_threshold_moves_the_label_and_not_the_probabilities(
    model: Any, scans: list[bytes]
) -> None:
    everything = predict(model, scans[:4], {"threshold": 0.0})
    nothing = predict(model, scans[:4], {"threshold": 1.0})
    assert set(everything["label"]) == {"adenocarcinoma"}
    assert set(nothing["label"]) == {"normal"}
    np.testing.assert_allclose(
        everything["p_normal"].to_numpy(float), nothing["p_normal"].to_numpy(float)
    )
    assert nothing["probability"].tolist() == nothing["p_normal"].tolist()


@pytest.mark.parametrize("threshold", [1.5, -0.2, float("nan")])
def test_what_is_no_threshold_is_refused_with_a_sentence(
    model: Any, scans: list[bytes], threshold: float
) -> None:
    with pytest.raises(ValueError, match=r"Expected a threshold from 0 to 1 .* received"):
        predict(model, scans[:1], {"threshold": threshold})


def test_eight_threads_get_right_answers(model: Any, scans: list[bytes]) -> None:
    expected = predict(model, scans)["p_normal"].to_numpy(float)

    def ask(start: int) -> bool:
        order = np.roll(np.arange(len(scans)), start)
        rows = predict(model, [scans[i] for i in order])
        return bool(np.allclose(rows["p_normal"].to_numpy(float), expected[order], atol=1e-6))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))


def test_stands_alone_without_the_project_and_without_tensorflow(
    tiny_pipeline: Tiny, model: Any, scans: list[bytes], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(tiny_pipeline.model, moved)
    (tmp_path / "scan.png").write_bytes(scans[0])
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'dvc', 'nncf', 'boto3', 'scans', 'steps'):\n"
        "    sys.modules[name] = None\n"
        "import mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model('elsewhere')\n"
        "rows = model.predict(pd.DataFrame({'image': [open('scan.png', 'rb').read()]}))\n"
        "own = [m for name, m in sys.modules.items() if name.startswith('chest_ct_model_')]\n"
        "assert own and all('elsewhere' in m.__file__ for m in own), own\n"
        "assert 'model' not in sys.modules\n"
        "print(rows['p_normal'][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = predict(model, [scans[0]])["p_normal"][0]
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(expected, abs=1e-6)


def test_carries_what_callers_need_to_know(model: Any, tiny_pipeline: Tiny) -> None:
    metadata = model.metadata.metadata
    assert metadata["classes"] == ["adenocarcinoma", "normal"]
    assert metadata["phantom"] is True
    assert metadata["precision"] == "int8"
    assert len(metadata["model_digest"]) == 64
    requirements = (tiny_pipeline.model / "requirements.txt").read_text()
    assert "tensorflow" not in requirements
    assert "keras" not in requirements
    assert "dvc" not in requirements
    assert not list(tiny_pipeline.model.rglob("*.pkl"))


def test_the_input_example_gets_a_row(model: Any, tiny_pipeline: Tiny) -> None:
    example = json.loads((tiny_pipeline.model / "serving_input_example.json").read_text())
    answer = invocations(
        json.dumps(example), "application/json", model, model.metadata.get_input_schema()
    )
    assert json.loads(answer.response)["predictions"][0]["error"] is None


def test_pictures_of_all_kinds_of_the_same_pixels_get_the_same_row(
    model: Any, scans: list[bytes]
) -> None:
    grey = Image.open(io.BytesIO(scans[0])).convert("L")
    files = []
    for kind, mode in (("PNG", "L"), ("BMP", "L"), ("TIFF", "RGB"), ("PNG", "RGBA")):
        file = io.BytesIO()
        grey.convert(mode).save(file, kind)
        files.append(file.getvalue())
    rows = predict(model, files)
    assert rows["error"].isna().all()
    assert rows["p_normal"].nunique() == 1
