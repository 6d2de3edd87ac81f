"""How the tests are spread over processes, and fixtures that more than one folder uses.

Nothing heavy is imported here: a folder's tests load only what they test.
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.session import Shared, new_shared

if TYPE_CHECKING:
    from tests.fork_server import ForkServer
    from tests.model.tiny import Tiny
    from tests.s3_server import S3Server

WORKERS = 2
SHARED = pytest.StashKey[Shared]()
TESTS = Path(__file__).parent
# Folders whose tests share servers or container images for the session: one worker runs them all.
ONE_WORKER = ("serve", "deploy")
# Begun first, because they take longest; the others follow as they are collected.
LONGEST = (
    "test_pipeline.py",
    "batch/test_spark.py",
    "batch/test_kill.py",
    "serve",
    "deploy",
    "steps/test_promote_server.py",
    "steps/test_training.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run folders of tests in two workers; single files and `--pdb` in this process.

    `-n` decides where it is given; without pytest-xdist (`-p no:xdist`) there is one process.
    """
    if hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist"):
        return  # a worker must start none
    option = config.option
    single = all(Path(argument.partition("::")[0]).is_file() for argument in config.args)
    if option.numprocesses is None and not single and not option.usepdb:
        option.numprocesses = WORKERS
    if option.numprocesses and option.dist == "no":
        option.dist = "loadfile"  # see pytest_xdist_make_scheduler
        option.loadscopereorder = False  # keep the order of pytest_collection_modifyitems


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file, or of a folder with servers of its own, in one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByResource(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((name for name in ONE_WORKER if file.startswith(f"tests/{name}/")), file)

    return ByResource(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it at the end."""

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(TESTS).as_posix()
        return next((n for n, name in enumerate(LONGEST) if place.startswith(name)), len(LONGEST))

    items.sort(key=rank)  # stable


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGTERM end a session as Ctrl-C does, servers and all, and let Ctrl-C be a signal.

    A shell that starts pytest in the background has it ignore SIGINT, and with it every program
    that a test starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where the session's shared folder is."""
    node.workerinput["shared"] = str(_shared(node.config).folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the workers left running; they have ended."""
    if SHARED in config.stash and not hasattr(config, "workerinput"):
        config.stash[SHARED].close()


def _shared(config: pytest.Config) -> Shared:
    """Return what the processes of this session share; made at first use."""
    if SHARED not in config.stash:
        given = getattr(config, "workerinput", {}).get("shared")
        config.stash[SHARED] = Shared(Path(given)) if given else new_shared()
    return config.stash[SHARED]


@pytest.fixture(autouse=True)
def whole_log(caplog: pytest.LogCaptureFixture) -> None:
    """Let `caplog` hear everything: NNCF, once used, raises the level of pytest's own handler."""
    caplog.handler.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest) -> Shared:
    """Folders and servers that all workers of the session share."""
    return _shared(request.config)


@pytest.fixture(scope="session")
def s3_server(shared: Shared) -> S3Server:
    """A real S3 server for the whole session; each test makes its own bucket."""
    from tests.s3_server import S3Server, start_s3_server

    def start(folder: Path) -> None:
        process, server = start_s3_server(folder)
        shared.keep_running(process)
        (folder / "endpoint").write_text(server.endpoint_url)

    return S3Server((shared.once("s3", start) / "endpoint").read_text())


@pytest.fixture(scope="session")
def fork_server(shared: Shared) -> ForkServer:
    """A process that has MLflow loaded and forks the project's programs."""
    from tests.fork_server import ForkServer, start_fork_server

    def start(folder: Path) -> None:
        shared.keep_running(start_fork_server(folder)[0])

    return ForkServer(shared.once("fork-server", start) / "socket")


@pytest.fixture(scope="session")
def stand_in_model(shared: Shared) -> Path:
    """An MLflow model folder whose rows look like the real pyfunc's and cost nothing."""
    from tests.stand_in_model import save_stand_in_model

    return shared.once("stand_in", save_stand_in_model) / "model"


@pytest.fixture(scope="session")
def small_model(shared: Shared) -> Path:
    """A pyfunc of the product's own code round a network of 5 kB; not to be changed."""
    from tests.model.small_model import save_small_model

    return shared.once("small_model", save_small_model) / "model"


@pytest.fixture(scope="session")
def tiny_pipeline(shared: Shared) -> Tiny:
    """Phantoms through the first three stages, 32 x 32 px, random weights; not to be changed."""
    from tests.model.tiny import run_tiny_pipeline, tiny_in

    return tiny_in(shared.once("tiny", run_tiny_pipeline))
