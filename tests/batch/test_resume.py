"""What is read again and what is not, and whose output it is."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from batch.faults import CannotRunError, LockLostError
from batch.locations import Access, Location, make_client
from batch.store import lock
from batch.store.lock import LOCK_NAME, Lock
from batch.store.stores import ConflictError, FolderStore, S3Store, Store, open_store
from batch.table import output
from batch.table.journal import JOURNAL
from batch.table.part_files import PartFiles
from tests.batch.conftest import Bucket, Run, png
from tests.batch.test_job import save_model


@pytest.fixture
def places(bucket: Bucket) -> tuple[str, str]:
    """Return an input of 25 scans and an output."""
    bucket.put({f"scans/{n:02d}.png": png(n) for n in range(25)})
    return f"s3://{bucket.name}/scans/", f"s3://{bucket.name}/scores/"


def test_only_new_and_changed_objects_are_read_and_gone_ones_lose_their_row(
    bucket: Bucket, places: tuple[str, str], run_here: Run, stand_in_model: Path
) -> None:
    arguments = (*places, "--model-uri", stand_in_model, "--no-tracking")
    assert run_here(*arguments).summary["objects_read"] == 25
    before = {r["uri"]: r for r in bucket.table("scores/").to_pylist()}
    unchanged = run_here(*arguments).summary
    assert (unchanged["objects_read"], unchanged["objects_skipped"]) == (0, 25)
    bucket.put({"scans/05.png": png(255), "scans/99.png": png(99)})
    bucket.client.delete_object(Bucket=bucket.name, Key="scans/06.png")
    summary = run_here(*arguments).summary
    assert summary["objects_read"] == 2
    assert summary["rows"] == summary["objects_listed"] == 25
    assert summary["rows_removed"] == 1
    after = {r["uri"]: r for r in bucket.table("scores/").to_pylist()}
    assert len(after) == bucket.table("scores/").num_rows == 25
    changed = places[0] + "05.png"
    assert before[changed]["label"] == "adenocarcinoma"
    assert after[changed]["label"] == "normal"
    assert places[0] + "06.png" not in after
    assert bucket.names("scores/_SUCCESS")


def test_failed_rows_are_kept_until_asked_for(
    bucket: Bucket, places: tuple[str, str], run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({"scans/bad.png": b"bad"})
    arguments = (*places, "--model-uri", stand_in_model, "--no-tracking")
    assert run_here(*arguments).code == 1
    kept = run_here(*arguments)
    assert (kept.code, kept.summary["objects_read"]) == (1, 0)
    retried = run_here(*arguments, "--retry-failed")
    assert (retried.code, retried.summary["objects_read"]) == (1, 1)
    assert bucket.table("scores/").num_rows == 26


def test_parts_stay_few_and_full_whatever_the_interruptions(
    bucket: Bucket,
    places: tuple[str, str],
    run_here: Run,
    stand_in_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output, "ROWS_PER_PART", 10)
    arguments = (*places, "--model-uri", stand_in_model, "--no-tracking", "--batch-size", 2)
    for limit in (3, 4, 11, 24):
        assert run_here(*arguments, "--limit", limit).code == 0
    assert run_here(*arguments).summary["parts"] == 3
    assert bucket.table("scores/").num_rows == 25
    # Changed objects in every part are replaced where they are.
    bucket.put({f"scans/{n:02d}.png": png(n + 200) for n in range(0, 25, 4)})
    summary = run_here(*arguments).summary
    assert (summary["objects_read"], summary["parts"], summary["rows"]) == (7, 3, 25)


@pytest.mark.parametrize("moment", ["after_segments", "after_part", "while_replacing"])
def test_a_stop_between_any_two_writes_leaves_one_row_each(
    bucket: Bucket,
    places: tuple[str, str],
    run_here: Run,
    stand_in_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    arguments = (*places, "--model-uri", stand_in_model, "--no-tracking")
    if moment == "while_replacing":
        monkeypatch.setattr(output, "ROWS_PER_PART", 10)
        assert run_here(*arguments).code == 0
        bucket.put({f"scans/{n:02d}.png": png(n + 200) for n in (1, 12, 24)})

    def power_cut(*_: object) -> None:
        raise CannotRunError("power cut")

    with monkeypatch.context() as broken:
        if moment == "after_segments":
            broken.setattr(output.Output, "publish", power_cut)
        elif moment == "after_part":
            delete = S3Store.delete

            def fail_for_journal(self: S3Store, names: Iterable[str]) -> None:
                names = list(names)
                if any(name.startswith(JOURNAL) for name in names):
                    power_cut()
                delete(self, names)

            broken.setattr(S3Store, "delete", fail_for_journal)
        else:
            write = PartFiles._write
            written: list[int] = []

            def fail_second(self: PartFiles, number: int, *rest: object) -> None:
                written.append(number)
                if len(written) == 2:
                    power_cut()
                write(self, number, *rest)  # type: ignore[arg-type]

            broken.setattr(PartFiles, "_write", fail_second)
        stopped = run_here(*arguments)
        assert stopped.code == 2
        assert "power cut" in stopped.err
    assert bucket.names("scores/_journal/")
    summary = run_here(*arguments).summary
    assert summary["objects_read"] == 0, "everything was durable in the journal"
    rows = bucket.table("scores/")
    assert rows.num_rows == len(set(rows["uri"].to_pylist())) == 25
    assert not bucket.names("scores/_journal/")


def test_output_of_another_job_is_refused_and_left_alone(
    bucket: Bucket, places: tuple[str, str], run_here: Run, stand_in_model: Path, tmp_path: Path
) -> None:
    arguments = ("--model-uri", stand_in_model, "--no-tracking")
    assert run_here(*places, *arguments).code == 0
    before = {key: bucket.get(key) for key in bucket.names("scores/")}
    bucket.put({"other/1.png": png(1)})
    other_model = save_model(
        tmp_path, "\n        return super().predict(context, model_input, params)"
    )
    attempts = {
        "its input is": (f"s3://{bucket.name}/other/", places[1], *arguments),
        "its --include is": (*places, *arguments, "--include", "*.png"),
        "its --format is": (*places, *arguments, "--format", "csv"),
        "its --model-uri is": (*places, "--model-uri", other_model, "--no-tracking"),
    }
    for sentence, command in attempts.items():
        refused = run_here(*command)
        assert refused.code == 2
        assert sentence in refused.err
        assert "--overwrite" in refused.err
        assert refused.out == ""
    assert {key: bucket.get(key) for key in bucket.names("scores/")} == before
    bucket.put({"scores/readme.txt": b"mine"})
    replaced = run_here(f"s3://{bucket.name}/other/", places[1], *arguments, "--overwrite")
    assert replaced.code == 0
    assert bucket.table("scores/")["uri"].to_pylist() == [f"s3://{bucket.name}/other/1.png"]
    assert bucket.get("scores/readme.txt") == b"mine"


def test_parts_of_unknown_origin_are_refused(
    bucket: Bucket, places: tuple[str, str], run_here: Run, stand_in_model: Path
) -> None:
    bucket.put({"scores/part-00000.parquet": b"someone else's"})
    refused = run_here(*places, "--model-uri", stand_in_model, "--no-tracking")
    assert refused.code == 2
    assert "may belong to something else" in refused.err
    assert bucket.get("scores/part-00000.parquet") == b"someone else's"


@pytest.mark.slow
def test_two_copies_at_once_the_second_stops(
    bucket: Bucket, places: tuple[str, str], run_here: Run, run_cli: Run, tmp_path: Path
) -> None:
    from tests.batch.kills import save_slow_model

    model = save_slow_model(tmp_path, seconds_per_scan=0.5)
    results = []

    def first() -> None:
        results.append(run_cli(*places, "--model-uri", model, "--no-tracking"))

    thread = threading.Thread(target=first)
    thread.start()
    while not bucket.names("scores/_job.json"):
        time.sleep(0.1)
        assert thread.is_alive()
    second = run_here(*places, "--model-uri", model, "--no-tracking")
    assert second.code == 2
    assert "Another job is writing" in second.err
    thread.join()
    assert results[0].code == 0
    assert bucket.table("scores/").num_rows == 25


@pytest.fixture(params=["s3", "folder"])
def store(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path) -> Store:
    """Return a store of either kind."""
    if request.param == "folder":
        return FolderStore(tmp_path / "store")

    return S3Store(bucket.client, Location.parse(f"s3://{bucket.name}/out/"), None)


def test_lock_of_a_dead_process_is_taken_over_and_a_living_one_is_respected(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = threading.Event()
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.05)
    with Lock(store, lost.set) as held:
        with pytest.raises(CannotRunError, match="Another job is writing"), Lock(store, print):
            pass
        held.check()
        monkeypatch.setattr(lock, "_has_ended", lambda holder: True)
        with Lock(store, print) as taken:
            # The first holder learns of it at its next heartbeat, which ends its job.
            assert lost.wait(30)
            with pytest.raises(LockLostError, match="took over"):
                held.check()
            taken.check()
    assert LOCK_NAME not in store.names()


def test_lock_from_another_machine_holds_until_it_is_stale(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = {"owner": "x", "host": "elsewhere", "pid": 1, "namespace": "n", "started": "1"}
    store.write(LOCK_NAME, json.dumps(holder).encode())
    with pytest.raises(CannotRunError, match="on elsewhere"), Lock(store, print):
        pass
    monkeypatch.setattr(lock, "STALE_AFTER_S", -1)
    with Lock(store, print) as taken:
        taken.check()
    assert store.names() == []


def test_only_one_of_many_takes_over_a_dead_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = {"owner": "x", "host": "elsewhere", "pid": 1, "namespace": "n", "started": "1"}
    store.write(LOCK_NAME, json.dumps(holder).encode())
    tag = store.read(LOCK_NAME)[1]

    store.write(LOCK_NAME, b"first", only_if=tag)
    with pytest.raises(ConflictError):
        store.write(LOCK_NAME, b"second", only_if=tag)
    with pytest.raises(ConflictError):
        store.write(LOCK_NAME, b"third", only_if="absent")
    assert store.read(LOCK_NAME)[0] == b"first"


class CarelessServer:
    """An S3 client whose server passes over some conditions of writes."""

    def __init__(self, *conditions: str) -> None:
        self.passed_over = set(conditions)
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Key: str, Body: bytes, **condition: Any) -> dict[str, Any]:  # noqa: N803
        kept = set(condition) & {"IfNoneMatch", "IfMatch"} - self.passed_over
        there = self.objects.get(Key)
        if ("IfNoneMatch" in kept and there is not None) or (
            "IfMatch" in kept and condition["IfMatch"] != self.tag(there or b"")
        ):
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        self.objects[Key] = Body
        return {"ETag": self.tag(Body)}

    def get_object(self, *, Key: str, **_rest: Any) -> dict[str, Any]:  # noqa: N803
        data = self.objects[Key]
        return {"Body": io.BytesIO(data), "ContentLength": len(data), "ETag": self.tag(data)}

    def delete_objects(self, *, Delete: dict[str, Any], **_rest: Any) -> dict[str, Any]:  # noqa: N803
        for entry in Delete["Objects"]:
            self.objects.pop(entry["Key"], None)
        return {}

    @staticmethod
    def tag(data: bytes) -> str:
        return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@pytest.mark.parametrize("condition", ["IfNoneMatch", "IfMatch"])
def test_a_store_that_passes_over_conditions_is_refused(condition: str) -> None:
    server = CarelessServer(condition)
    store = S3Store(server, Location.parse("s3://b/out"), None)
    header = {"IfNoneMatch": "If-None-Match", "IfMatch": "If-Match"}[condition]
    with (
        pytest.raises(CannotRunError, match=rf"whose condition \({header}\) does not hold"),
        Lock(store, lambda: None),
    ):
        pytest.fail("it was not noticed")
    assert server.objects == {}
    with Lock(S3Store(CarelessServer(), Location.parse("s3://b/out"), None), lambda: None):
        pass


def test_open_store_chooses_by_location(tmp_path: Path) -> None:
    assert isinstance(open_store(Location.parse(str(tmp_path)), Access()), FolderStore)


def test_everything_written_to_s3_is_encrypted_with_the_key_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    client = make_client(Access(endpoint_url="http://127.0.0.1:1"))
    put = {
        "Bucket": "b", "Key": "out/part", "Body": b"rows", "IfNoneMatch": "*",
        "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu:1:key/k",
    }  # fmt: skip
    with Stubber(client) as stubbed:
        stubbed.add_response("put_object", {"ETag": '"e"'}, put)
        store = S3Store(client, Location.parse("s3://b/out/"), "arn:aws:kms:eu:1:key/k")
        assert store.write("part", b"rows", only_if="absent") == '"e"'
        stubbed.assert_no_pending_responses()


def test_a_file_that_may_not_be_read_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    store.write("part-00000.parquet", b"rows")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything
    with pytest.raises(CannotRunError, match=r"part-00000.parquet: Permission denied. Grant read"):
        store.read("part-00000.parquet")
