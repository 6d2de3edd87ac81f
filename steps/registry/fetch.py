"""Fetch a registered version into a folder that an image can be built from.

\b
python -m steps.registry.fetch models:/chest-ct/Production artifacts/registry/model
docker build -t chest-cancer-app --build-arg MODEL=artifacts/registry/model .

The folder gets the version's scores as well, so that the page in the image shows them. Standard
output has the version's number.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from model.packaging import quiet_mlflow
from steps.errors import StageError, one_sentence_errors
from steps.folders import replaced_folder
from steps.options import StageCommand
from steps.registry.client import check_registry
from steps.registry.register import MODEL_DIGEST, SCORES_ARTIFACT
from steps.registry.uris import ModelVersion, registered_version
from steps.tracking import print_progress

SCORES = "scores.json"
EXTERNAL = Path("artifacts", "external_evaluation")  # in the folder, where the server looks


def fetch(uri: str, output: Path) -> ModelVersion:
    """Download a version's model and its scores.

    Args:
        uri: `models:/name/stage`, `models:/name/3` or `models:/name@alias`.
        output: the folder to write; it appears only when whole.

    Raises:
        StageError: the URI names no version of a registered model.
    """
    check_registry()
    try:
        version = registered_version(uri)
    except MlflowException as error:
        raise StageError(f"{uri} names no version: {str(error).splitlines()[0]}") from error
    if version is None:
        raise StageError(
            f"Expected a registered model, such as models:/chest-ct/Production. Received: {uri}"
        )
    with replaced_folder(output) as folder, tempfile.TemporaryDirectory() as scratch:
        numbered = f"models:/{version.name}/{version.number}"
        downloaded = mlflow.artifacts.download_artifacts(numbered, dst_path=str(folder / "model"))
        for file in Path(downloaded).iterdir():
            file.rename(folder / file.name)
        Path(downloaded).rmdir()
        if version.run_id:
            _add_scores(version.run_id, Path(scratch), folder)
    return version


def _add_scores(run_id: str, scratch: Path, folder: Path) -> None:
    """Put the scores that the version's run has into the model's folder."""
    client = mlflow.MlflowClient()
    own = client.list_artifacts(run_id, str(Path(SCORES_ARTIFACT).parent))
    if any(file.path == SCORES_ARTIFACT for file in own):
        text = mlflow.artifacts.load_text(f"runs:/{run_id}/{SCORES_ARTIFACT}")
        (folder / SCORES).write_text(text, encoding="utf-8")
    for external in client.list_artifacts(run_id, "external"):
        found = client.download_artifacts(run_id, f"{external.path}/{SCORES}", str(scratch))
        target = folder / EXTERNAL / Path(external.path).name / SCORES
        target.parent.mkdir(parents=True)
        target.write_bytes(Path(found).read_bytes())


@click.command(cls=StageCommand, help=__doc__)
@click.argument("model_uri")
@click.argument("output", type=click.Path(path_type=Path, file_okay=False))
@one_sentence_errors
def main(model_uri: str, output: Path) -> None:
    with quiet_mlflow():
        version = fetch(model_uri, output)
    metadata = Model.load(str(output)).metadata or {}
    synthetic = " SYNTHETIC: trained on phantoms." if metadata.get("phantom") else ""
    print_progress(
        f"{version.name} version {version.number}, model digest "
        f"{str(metadata.get(MODEL_DIGEST))[:12]}, in {output}.{synthetic}"
    )
    click.echo(version.number)


if __name__ == "__main__":
    main()
