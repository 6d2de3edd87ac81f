"""The image, built from the repository's Dockerfile and run.

One build is shared. Its model is the stand-in, with the requirements of a real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.deploy.conftest import BASE, ROOT, Engine
from tests.s3_server import S3Server, free_port

NAME = "localhost/chest-ct-test-image"  # kept after the tests: the next build is quick
CONTEXT = ("Dockerfile", ".dockerignore", "requirements-serve.txt", "serve", "logs", "deploy")
SCORES = '{"accuracy": 0.9, "n": 50}'

# What deploy/slim-venv.sh leaves must still do the model's and the server's work.
WORK = """
import io
import imagecodecs, numpy, openvino, pandas, pydicom
slice_ = numpy.arange(64 * 64, dtype=numpy.uint16).reshape(64, 64)
for codec in ("jpeg2k", "jpegls"):
    encoded = getattr(imagecodecs, codec + "_encode")(slice_)
    assert (getattr(imagecodecs, codec + "_decode")(encoded) == slice_).all(), codec
assert imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(slice_.astype("uint8"))).shape == (64, 64)
imagecodecs.dicomrle_decode
table = io.BytesIO()
pandas.DataFrame({"image": [b"scan"]}).to_parquet(table)
assert pandas.read_parquet(table)["image"][0] == b"scan"
x = openvino.opset13.parameter([1, 4], dtype=numpy.float32)
graph = openvino.Model([openvino.opset13.relu(x)], [x])
openvino.save_model(graph, "/tmp/graph.xml")
network = openvino.Core().compile_model("/tmp/graph.xml", "CPU")
assert (network([numpy.ones((1, 4), "float32")])[0] == 1).all()
"""


@pytest.fixture(scope="session")
def checkout(stand_in_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout after a pipeline run, with what must not get into an image around the model."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    model = folder / "artifacts/training/model"
    shutil.copytree(stand_in_model, model)
    shutil.copy(ROOT / "deploy/no-model/requirements.txt", model / "requirements.txt")
    (folder / "scores.json").write_text(SCORES)
    for path in [".env", ".git/config", "mlflow.db", "scans/patient.dcm", "deploy/.env"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("private")
    for path in ["data_ingestion/patient.png", "training/features.npy"]:
        (folder / "artifacts" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "artifacts" / path).write_text("private")
    return folder


@pytest.fixture(scope="session")
def image(engine: Engine, checkout: Path) -> str:
    """The image with the stand-in model inside."""
    name = f"{NAME}:with-model"
    engine("build", "-t", name, "--build-arg", f"PYTHON_IMAGE={BASE}", checkout)
    return name


@pytest.fixture(scope="session")
def image_without_model(engine: Engine, checkout: Path, image: str) -> str:
    """The image that takes its model from MODEL_URI; shares the layers of `image`."""
    name = f"{NAME}:without-model"
    arguments = ["--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", "MODEL="]
    engine("build", "-t", name, *arguments, checkout)
    return name


def smoke(engine: Engine, checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["bash", "deploy/smoke.sh", *arguments],
        cwd=checkout,
        env=os.environ | {"CONTAINER_TOOL": engine.tool},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_the_image_keeps_its_promises(engine: Engine, checkout: Path, image: str) -> None:
    said = smoke(engine, checkout, image)
    print(said)
    assert said.count("ok: ") == 10
    assert f"{image} takes " in said
    assert "chest-ct-smoke" not in engine("ps", "-a", "--format", "{{.Names}}")


@pytest.mark.skipif(
    "CHEST_CT_SLOW_TESTS" not in os.environ,
    reason="builds MLflow's own image, which takes minutes: set CHEST_CT_SLOW_TESTS=1",
)
def test_mlflows_own_image_answers_the_same(engine: Engine, checkout: Path, image: str) -> None:
    said = smoke(engine, checkout, "--compare", image)
    print(said)
    assert "same answer, byte for byte" in said


def test_smoke_fails_for_an_image_that_breaks_a_promise(
    engine: Engine, checkout: Path, image: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nUSER root\n")
    engine("build", "-q", "-t", f"{NAME}:root", tmp_path)
    done = subprocess.run(
        ["bash", "deploy/smoke.sh", f"{NAME}:root"],
        cwd=checkout,
        env=os.environ | {"CONTAINER_TOOL": engine.tool},
        capture_output=True,
        text=True,
    )
    engine("rmi", f"{NAME}:root", check=False)
    assert done.returncode == 1
    assert "expected a numeric user that is not root" in done.stderr


def test_only_code_and_the_model_reach_the_builder(
    engine: Engine, checkout: Path, tmp_path: Path
) -> None:
    dockerfile = tmp_path / "List.Dockerfile"
    dockerfile.write_text(f"FROM {BASE}\nCOPY . /context\n")
    engine("build", "-q", "-t", f"{NAME}:context", "-f", dockerfile, checkout)
    listing = engine("run", "--rm", f"{NAME}:context", "find", "/context", "-type", "f")
    engine("rmi", f"{NAME}:context", check=False)
    found = {line.removeprefix("/context/") for line in listing.splitlines()}
    assert "artifacts/training/model/MLmodel" in found
    folders = ("serve/", "logs/", "artifacts/training/model/", "deploy/no-model/")
    files = {
        "requirements-serve.txt",
        "scores.json",
        "deploy/entrypoint.sh",
        "deploy/slim-venv.sh",
        "deploy/write_byte_code.py",
    }
    surplus = {name for name in found - files if not name.startswith(folders)}
    assert not surplus - {"Dockerfile", ".dockerignore"}


def test_what_was_slimmed_still_works(engine: Engine, image: str) -> None:
    engine("run", "--rm", "--entrypoint", "python", image, "-c", WORK)


def test_labels_tell_what_the_image_is(engine: Engine, image: str) -> None:
    label = '{{{{index .Config.Labels "org.opencontainers.image.{}"}}}}'
    name, description, base = (
        engine("image", "inspect", "-f", label.format(key), image)
        for key in ("title", "description", "base.name")
    )
    assert name == "chest-cancer-app"
    assert "not a medical device" in description
    assert base == BASE


def test_evaluations_scores_go_with_the_pipelines_model_and_no_other(
    engine: Engine, image: str, image_without_model: str
) -> None:
    said = engine("run", "--rm", "--entrypoint", "cat", image, "/opt/model/scores.json")
    assert said == SCORES
    listing = engine("run", "--rm", "--entrypoint", "ls", image_without_model, "/opt/model")
    assert "scores.json" not in listing


@pytest.mark.slow
def test_it_builds_where_nothing_was_evaluated(engine: Engine, checkout: Path, image: str) -> None:
    name = f"{NAME}:without-scores"
    (checkout / "scores.json").unlink()
    try:
        engine("build", "-q", "-t", name, "--build-arg", f"PYTHON_IMAGE={BASE}", checkout)
        listing = engine("run", "--rm", "--entrypoint", "ls", name, "/opt/model")
    finally:
        (checkout / "scores.json").write_text(SCORES)
        engine("rmi", name, check=False)
    assert "MLmodel" in listing
    assert "scores.json" not in listing


def test_without_a_model_it_says_what_to_set(engine: Engine, image_without_model: str) -> None:
    done = subprocess.run(
        [engine.tool, "run", "--rm", image_without_model], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "set MODEL_URI=models:/chest-ct/Production" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_in_s3_is_served_without_an_api_key_only_with_a_warning(
    engine: Engine, image_without_model: str, stand_in_model: Path, s3_server: S3Server
) -> None:
    client = s3_server.client()
    client.create_bucket(Bucket="models")
    for path in stand_in_model.rglob("*"):
        if path.is_file():
            key = f"chest-ct/{path.relative_to(stand_in_model)}"
            client.upload_file(str(path), "models", key)
    port = free_port()
    name = f"chest-ct-test-s3-{port}"
    variables = s3_server.env() | {"MODEL_URI": "s3://models/chest-ct"}
    options = [word for key, value in variables.items() for word in ("-e", f"{key}={value}")]
    # The host's network: the S3 server listens on this host's loopback address only.
    options += ["--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    try:
        engine("run", "-d", "--name", name, *options, image_without_model, "--port", str(port))
        wait_until_answering(f"http://127.0.0.1:{port}/health")
        logs = subprocess.run([engine.tool, "logs", name], capture_output=True, text=True)
        assert "no API key is set" in logs.stdout + logs.stderr
        assert "SKTEST" not in logs.stdout + logs.stderr
    finally:
        engine("rm", "-f", name, check=False)


def wait_until_answering(url: str, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError as error:
            assert time.monotonic() < deadline, f"{url}: {error}"
            time.sleep(0.3)
