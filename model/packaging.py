"""Writing the pyfunc: everything a prediction needs, in one folder that stands alone."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

from . import artefact
from .decision import healthy_indices
from .scorer import output_columns

# What a prediction imports. No TensorFlow, no DVC: a server needs neither.
REQUIREMENTS = ("imagecodecs", "mlflow", "numpy", "openvino", "pandas", "pillow", "pydicom")

PACKAGE = "chest_ct_model"  # the shipped code's folder, which loader.py looks for

# What only preparing, training and saving import. A change in it changes no answer.
NOT_SHIPPED = frozenset(
    {"keras_network.py", "loader.py", "network.py", "packaging.py", "tensors.py", "weights.py"}
)

PARAMS = ParamSchema(
    [
        ParamSpec("threshold", "double", -1.0),
        ParamSpec("explain", "boolean", False),
        ParamSpec("series", "boolean", False),
    ]
)


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """Return the pyfunc's columns.

    `image` is a string column: base64 text comes that way through every form of JSON and CSV,
    and Python callers may pass bytes in it. A binary column would make MLflow refuse a whole
    request for one row that is not base64. `series` may be left out, or be null.
    """
    inputs = [ColSpec("string", "image"), ColSpec("string", "series", required=False)]
    outputs = [ColSpec(kind, name, required=False) for name, kind in output_columns(classes)]
    return ModelSignature(Schema(inputs), Schema(outputs), PARAMS)


def save_pyfunc(folder: Path, network: Path, card: artefact.Card, example: str) -> None:
    """Save the pyfunc.

    Args:
        folder: of the MLflow model; must not exist.
        network: folder with the network, the head and the card (see artefact.py).
        card: the model's card, repeated in the MLmodel's metadata for callers that do not load.
        example: base64 text of an image file that may be published: stored as input example.
            MLflow validates it against the loaded model.
    """
    with quiet_mlflow(), tempfile.TemporaryDirectory() as scratch:
        loader, code = stage_code(Path(scratch))
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(loader),
            artifacts={"network": str(network)},
            code_paths=[str(code)],
            signature=signature(card.classes),
            input_example=(
                pd.DataFrame({"image": [example]}),
                {"threshold": -1.0, "explain": False, "series": False},
            ),
            metadata=metadata(card, artefact.model_digest(loader, code, network)),
            pip_requirements=[f"{n}=={importlib.metadata.version(n)}" for n in REQUIREMENTS],
        )


def stage_code(folder: Path) -> tuple[Path, Path]:
    """Copy the code that a prediction runs, laid out as in a saved model.

    Args:
        folder: empty; receives `loader.py` and `code/chest_ct_model/`.

    Returns:
        The paths of these two.
    """
    package = Path(__file__).resolve().parent
    loader, code = folder / "loader.py", folder / "code" / PACKAGE
    shutil.copyfile(package / "loader.py", loader)
    for path in package.rglob("*.py"):
        name = path.relative_to(package)
        if name.as_posix() not in NOT_SHIPPED:
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, code / name)
    return loader, code


def metadata(card: artefact.Card, model_digest: str) -> dict[str, Any]:
    """Return what the MLmodel file tells about the model."""
    return {
        "classes": list(card.classes),
        "image_size_px": card.preprocessing.image_size_px,
        "precision": card.precision,
        "data_digest": card.data_digest,
        "phantom": card.phantom,
        "threshold": card.threshold,
        "healthy_classes": healthy_names(card),
        "series_aggregation": card.series.aggregation if card.series else None,
        "series_threshold": card.series.threshold if card.series else None,
        "series_spacing_mm": card.series_spacing_mm,
        "model_digest": model_digest,
        "intended_use": "research software, not a medical device",
    }


def healthy_names(card: artefact.Card) -> list[str]:
    """Return the names of the classes that are no disease, as answers take them."""
    return [card.classes[at] for at in healthy_indices(card.classes, card.healthy_classes)]


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Silence remarks of MLflow's that do not hold here, and its bar for copying four files.

    The signature is given, so type hints add nothing; requirements are given, so none are
    inferred.
    """
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Tt]ype hint.*")
            yield
    finally:
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.unset()
        logger.setLevel(level)
