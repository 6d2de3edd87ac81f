"""Where a model comes from: a registry, an object store or a folder."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.params import declared_params

NOTICE = "Research software, not a medical device."
SYNTHETIC = (
    "SYNTHETIC: this model was trained on computer-drawn phantoms, not on scans of people. What it "
    "answers about a scan of a person means nothing."
)
COLUMN = "image"
SCORES_ARTIFACT = "registry/scores.json"  # in the run that a registered version came from
SCORE_TAG = "score."
CARD_FILE = "MODEL_CARD.md"
MAX_CARD_CHARACTERS = 50_000  # of GET /model's answer
EXTERNAL_TAG = "external."
DIGESTS = ("model_digest", "network_sha256")  # of this and of older layouts
METADATA_SHOWN = (
    "classes", "image_size_px", "precision", "data_digest", "phantom", "threshold",
    "series_threshold", "intended_use",
)  # fmt: skip


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine's disk, and what the registry says about it.

    Args:
        folder: the MLflow model.
        name: registered name, or None for a model that no registry knows.
        version: registered version.
        stage: `Staging`, `Production`, …, or None.
        aliases: names such as `champion` that point at this version.
        scores: on the test split, with their intervals, as evaluation's scores.json has them.
        external: by name of the set, scores on scans that the model was not made from, each with
            the digest of the model where it is known.
        card: the model card as Markdown, as far as there is one.
    """

    folder: Path
    name: str | None = None
    version: str | None = None
    stage: str | None = None
    aliases: list[str] = field(default_factory=list)
    scores: dict[str, Any] | None = None
    external: dict[str, dict[str, Any]] = field(default_factory=dict)
    card: str | None = None


class ModelNotFoundError(Exception):
    """No model could be got from the URI given."""


def fetch(model_uri: str) -> ModelFiles:
    """Return the model behind a URI, downloaded if it is not a local folder.

    `models:/name/stage` and `models:/name@alias` are turned into a version first, so that all
    workers of a server hold the same one, and `GET /model` names what is really served.

    Raises:
        ModelNotFoundError: with one sentence that says what to do.
    """
    import mlflow.artifacts

    try:
        files = registered_version(model_uri)
        if files is None:
            folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri))
            project = project_of(folder)
            files = ModelFiles(
                folder,
                scores=scores_beside(folder) or scores_beside(project, named=True),
                external=external_beside(folder) or external_beside(project),
                card=card_beside(folder) or card_beside(project),
            )
    except Exception as error:  # MLflow's, an object store's, a tracking server's, the disk's
        raise ModelNotFoundError(
            f"There is no model to be had at {model_uri}: {first_line(error)} Expected a URI such "
            "as models:/chest-ct/Production, s3://… or a folder; check it and MLFLOW_TRACKING_URI."
        ) from error
    if not (files.folder / "MLmodel").is_file():
        raise ModelNotFoundError(
            f"Expected an MLflow model at {model_uri}; there is no MLmodel file in it. "
            "Give the folder that `mlflow.pyfunc.save_model` wrote."
        )
    return files


def load(files: ModelFiles) -> Any:
    """Return the loaded pyfunc.

    Raises:
        ModelNotFoundError: it cannot be loaded here, or takes something else than scans.
    """
    import mlflow.pyfunc

    try:
        model = mlflow.pyfunc.load_model(str(files.folder))
    except Exception as error:  # whatever the model's own code raises
        raise ModelNotFoundError(
            f"The model cannot be loaded here: {first_line(error)} "
            "Check that its requirements are installed."
        ) from error
    schema = model.metadata.get_input_schema()
    named = schema is not None and schema.has_input_names()
    columns = schema.required_input_names() if named else []
    if columns != [COLUMN]:
        raise ModelNotFoundError(
            f"Expected a model with one input column {COLUMN!r}; its signature has "
            f"{columns or 'none'}. Give one that this project's training wrote."
        )
    return model


def first_line(error: Exception) -> str:
    """Return what an error says first, as the end of a sentence, without passwords in URLs."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    # MLflow appends the whole chain of causes to "API request to … failed".
    line = re.sub(r"//[^/@\s]+@", "//", line.split(" with exception ")[0])[:200]
    return line if line.endswith(".") else f"{line}."


def registered_version(model_uri: str) -> ModelFiles | None:
    """Return a registered model version, downloaded; None if the URI names no registered model."""
    import mlflow.artifacts
    from mlflow import MlflowClient
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    reference = model_uri.removeprefix("models:/")
    if reference == model_uri or ("/" not in reference and "@" not in reference):
        return None
    client = MlflowClient()
    with warnings.catch_warnings():
        # MLflow deprecates stages; this project serves users of stages and of aliases alike.
        warnings.simplefilter("ignore", FutureWarning)
        name, version = get_model_name_and_version(client, model_uri)
        found = client.get_model_version(name, version)
    aliases = client.get_registered_model(name).aliases
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}"))
    return ModelFiles(
        folder=folder,
        scores=scores_of_run(found.run_id) or scores_beside(folder) or scores_in_tags(found.tags),
        name=name,
        version=str(version),
        stage=None if found.current_stage in (None, "None") else found.current_stage,
        aliases=sorted(alias for alias, held in aliases.items() if str(held) == str(version)),
        external=external_in_tags(found.tags),
        card=(found.description or "").strip()[:MAX_CARD_CHARACTERS] or None,
    )


def scores_of_run(run_id: str | None) -> dict[str, Any] | None:
    """Return the scores that evaluation logged with the registered version, or None."""
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        scores: dict[str, Any] = mlflow.artifacts.load_dict(f"runs:/{run_id}/{SCORES_ARTIFACT}")
    except (MlflowException, OSError):
        return None  # registered by other means than this project's evaluation
    return scores


def scores_beside(folder: Path, *, named: bool = False) -> dict[str, Any] | None:
    """Return the scores in a model's folder, where a copy for an image has them, or None.

    Args:
        folder: that may hold scores.json.
        named: whether scores that do not name their model count as none.
    """
    file = folder / "scores.json"
    if not file.is_file():
        return None
    scores: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return scores if not named or set(DIGESTS) & set(scores) else None


def project_of(folder: Path) -> Path:
    """Return the checkout whose pipeline wrote a model to artifacts/training/model."""
    return folder.resolve().parents[2] if len(folder.resolve().parents) > 2 else folder


def external_beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the external scores in a checkout, or in a copy of a model for an image."""
    found = {}
    for file in sorted(folder.glob("artifacts/external_evaluation/*/scores.json")):
        scores = json.loads(file.read_text(encoding="utf-8"))
        found[file.parent.name] = shown_external(scores)
    return found


def card_beside(folder: Path) -> str | None:
    """Return the model card in a checkout, or beside a model; None if there is none."""
    file = folder / CARD_FILE
    if not file.is_file():
        return None
    return file.read_text(encoding="utf-8", errors="replace")[:MAX_CARD_CHARACTERS]


def external_in_tags(tags: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the external scores in tags `external.<name>` of a registered version."""
    found = {}
    for tag, text in sorted(tags.items()):
        if tag.startswith(EXTERNAL_TAG):
            with contextlib.suppress(ValueError):
                found[tag.removeprefix(EXTERNAL_TAG)] = json.loads(text)
    return found


def shown_external(scores: dict[str, Any]) -> dict[str, Any]:
    """Return what of an external evaluation's scores.json is shown: as the tags have it."""
    shown = {"scans": scores.get("n"), "groups": scores.get("groups")}
    for measure in ("roc_auc", "sensitivity", "specificity", "balanced_accuracy"):
        value = scores.get(measure) or {}
        shown |= {measure: value.get("value"), f"{measure}_ci95": value.get("ci95")}
    for share in ("out_of_domain", "undecided"):
        shown[share] = ((scores.get(share) or {}).get("all") or {}).get("value")
    return shown | {"model_digest": (scores.get("model") or {}).get("model_digest")}


def scores_of_model(scores: dict[str, Any] | None, *digests: str | None) -> dict[str, Any] | None:
    """Return scores if they are those of the model with one of these digests, as far as they tell.

    A scores.json may lie beside a model that was trained anew and not evaluated since.
    """
    if scores is None:
        return None
    named = {scores[key] for key in DIGESTS if key in scores}
    return scores if not named or named & set(digests) else None


def scores_in_tags(tags: dict[str, str]) -> dict[str, Any] | None:
    """Return the numbers in tags such as `score.sensitivity.value`, nested again, or None."""
    scores: dict[str, Any] = {}
    for tag, text in tags.items():
        if not tag.startswith(SCORE_TAG):
            continue
        *outer, last = tag.removeprefix(SCORE_TAG).split(".")
        nested = scores
        for name in outer:
            nested = nested.setdefault(name, {})
        try:
            nested[last] = float(text)
        except ValueError:
            nested[last] = None
    return scores or None


def about(files: ModelFiles, metadata: Any) -> dict[str, Any]:
    """Return what GET /model tells.

    Args:
        files: where the model came from.
        metadata: the loaded model's `mlflow.models.Model`.
    """
    own = metadata.metadata or {}
    digests = [own[key] for key in DIGESTS if own.get(key)]
    return {
        "name": files.name,
        "version": files.version,
        "stage": files.stage,
        "aliases": files.aliases,
        **{key: own.get(key) for key in METADATA_SHOWN},
        "model_digest": digests[0] if digests else None,
        "created_at": metadata.utc_time_created,
        "params": declared_params(metadata),
        "scores": scores_of_model(files.scores, *digests),
        "external": {
            name: scores
            for name, scores in files.external.items()
            if scores_of_model(scores, *digests)
        },
        "synthetic": SYNTHETIC if own.get("phantom") else None,
        "card": files.card,
        "notice": NOTICE,
    }
