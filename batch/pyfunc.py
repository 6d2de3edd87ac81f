"""The model: pinned to one version, identified by its content, asked for rows."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.faults import CannotRunError, without_passwords
from batch.locations import path_of
from batch.table.parts import model_column_type

# 32 x 32 grey pixels, to see the model's columns before any scan is read.
PROBE_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAAAAABWESUoAAAANUlEQVR42mNg4BCQUNAwsHDw"
    "CIhIyCioaOiYMGPBig07Dpy4cOPBiw8/GEYVjCoYVTBSFQAAl2zwEJjgKNwAAAAASUVORK5C"
    "YII="
)
MAX_ERROR_CHARACTERS = 500
# Written by MLflow and Python beside the model, different for every download.
NOT_CONTENT = {"registered_model_meta"}


@dataclass(frozen=True)
class PinnedModel:
    """One model version: what it is called, what it is, where its files are.

    Attributes:
        uri: `models:/name/version`, or the run's or folder's URI.
        family: what stays the same from version to version: `models:/name`, or `uri` itself.
        digest: SHA-256 over the names and contents of its files.
        folder: its files.
    """

    uri: str
    family: str
    digest: str
    folder: Path
    name: str | None = None
    version: str | None = None


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Keep MLflow's deprecation notices and chatter away from the user."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    # Recorded as well as ignored: MLflow puts filters of its own before ours.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def pinned_model(model_uri: str) -> Iterator[PinnedModel]:
    """Resolve a model URI once and have its files at hand until the block ends.

    A stage or an alias may move while the job runs; the version does not.

    Raises:
        CannotRunError: there is no such model, or it cannot be fetched.
    """
    scratch = Path(tempfile.mkdtemp(prefix="batch-model-"))
    try:
        with quiet_mlflow():
            uri, name, version = _resolve(model_uri)
            folder = _files(uri, scratch)
        family = f"models:/{name}" if name else uri
        yield PinnedModel(uri, family, digest_of(folder), folder, name, version)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _resolve(model_uri: str) -> tuple[str, str | None, str | None]:
    if "://" not in model_uri and not model_uri.startswith(("models:/", "runs:/")):
        folder = Path(model_uri.removeprefix("file:")).expanduser().resolve()
        if not (folder / "MLmodel").is_file():
            raise CannotRunError(
                f"No model at {folder}: expected an MLflow model folder (with a file MLmodel) or a "
                "URI such as models:/chest-ct/Production. Check --model-uri."
            )
        return folder.as_uri(), None, None
    if not model_uri.startswith("models:/"):
        return model_uri.rstrip("/"), None, None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.utils.models import _parse_model_uri, get_model_name_and_version

    try:
        if _parse_model_uri(model_uri).model_id is not None:
            return model_uri, None, None
        name, version = get_model_name_and_version(MlflowClient(), model_uri)
        MlflowClient().get_model_version(name, version)
    except MlflowException as error:
        raise CannotRunError(_missing(model_uri, error)) from error
    return f"models:/{name}/{version}", name, str(version)


def _files(uri: str, scratch: Path) -> Path:
    import mlflow

    if uri.startswith("file://"):
        return path_of(uri)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(scratch)))
    except Exception as error:  # each artefact store raises its own
        raise CannotRunError(_missing(uri, error)) from error
    if not (folder / "MLmodel").is_file():
        raise CannotRunError(
            f"{uri} is no MLflow model: it has no file MLmodel. Check --model-uri."
        )
    return folder


def _missing(uri: str, error: Exception) -> str:
    detail = without_passwords(" ".join(str(error).split()))[:200].rstrip(".")
    return (
        f"Cannot find or fetch the model {uri} ({detail}). Check --model-uri and "
        "MLFLOW_TRACKING_URI; `mlflow models` and the registry's page list what there is."
    )


def digest_of(folder: Path) -> str:
    """Return the SHA-256 over a model's files: relative names and contents, in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in NOT_CONTENT and path.suffix != ".pyc":
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Scorer:
    """A loaded pyfunc. `columns` maps its columns to their types, in its order."""

    def __init__(self, folder: Path, columns: dict[str, str] | None = None) -> None:
        """Load the model.

        Args:
            folder: its files.
            columns: what an earlier run found; without it the model is probed.

        Raises:
            CannotRunError: it cannot be loaded, or gives no rows for a probe.
        """
        import mlflow.pyfunc

        with quiet_mlflow():
            try:
                self.model: Any = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
            except Exception as error:  # whatever the model's own code raises
                first = _first_cause(error)
                raise CannotRunError(
                    f"The model cannot be loaded ({type(first).__name__}: {_one_line(first)}). "
                    "Install the requirements it lists, or choose another --model-uri."
                ) from error
        self.columns = columns or self._probe()

    def _probe(self) -> dict[str, str]:
        try:
            frame = self._predict([b"", PROBE_PNG])
        except Exception as error:  # whatever the model's own code raises
            raise CannotRunError(
                f"The model gives no rows ({type(error).__name__}: {_one_line(error)}). Expected a "
                "pyfunc with one input column `image` and one row per image; choose another "
                "--model-uri."
            ) from error
        outputs = self.model.metadata.get_output_schema()
        declared = (
            {column.name: column.type.name for column in outputs.inputs}
            if outputs is not None and not outputs.is_tensor_spec()
            else {}
        )
        names = [str(name) for name in frame.columns]
        if "error" not in names:
            raise CannotRunError(
                f"Expected a model whose rows have a column `error`. Received: {', '.join(names)}. "
                "Choose another --model-uri."
            )
        example = frame.iloc[1].to_dict()
        return {name: model_column_type(name, declared.get(name), example[name]) for name in names}

    def _predict(self, images: list[bytes]) -> Any:
        import pandas as pd

        frame = self.model.predict(pd.DataFrame({"image": pd.Series(images, dtype=object)}))
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"expected a DataFrame, received {type(frame).__name__}")
        if len(frame) != len(images):
            raise ValueError(f"expected {len(images)} rows, received {len(frame)}")
        return frame

    def score(self, images: list[bytes]) -> list[dict[str, Any]]:
        """Return one row per image, in order. A batch that fails is asked again one by one."""
        try:
            rows: list[dict[str, Any]] = self._predict(images).to_dict("records")
            return rows
        except Exception as error:  # whatever the model's own code raises
            if len(images) == 1:
                return [{"error": f"model_failed: {type(error).__name__}: {_one_line(error)}"}]
        return [row for image in images for row in self.score([image])]


def _first_cause(error: BaseException) -> BaseException:
    """Return what the model's own code raised, which MLflow wraps."""
    while (cause := error.__cause__) is not None:
        error = cause
    return error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_ERROR_CHARACTERS]
