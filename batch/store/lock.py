"""One job per output: a lock that its holder keeps fresh and that a dead holder loses."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from batch.faults import CannotRunError, LockLostError
from batch.store.stores import ConflictError, Store

LOCK_NAME = "_lock.json"
HEARTBEAT_S = 15
STALE_AFTER_S = 120  # by the store's clock; eight heartbeats
NO_TAG = '"00000000000000000000000000000000"'  # of no content
# Conditions that do not hold while the lock is there, and the headers that S3 gets them in.
BROKEN_CONDITIONS = {"absent": "If-None-Match", NO_TAG: "If-Match"}


class Lock:
    """Hold the output while the block runs.

    A second copy of the job meets the lock and stops. A holder that was killed is recognised at
    once on the same machine (its process is gone) and after `STALE_AFTER_S` from another one.
    Taking over is a conditional write, so only one of several can do it; a holder that lost its
    lock learns of it at its next heartbeat or at its next conditional write.
    """

    def __init__(self, store: Store, on_lost: Callable[[], None]) -> None:
        self.store = store
        self.lost = False
        self._on_lost = on_lost
        self._owner = {"owner": uuid.uuid4().hex, **_this_process()}
        self._tag = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="lock", daemon=True)

    def __enter__(self) -> Lock:
        for _attempt in range(3):
            try:
                self._tag = self.store.write(LOCK_NAME, self._content(), only_if="absent")
                break
            except ConflictError:
                if self._take_over():
                    break
        else:
            raise CannotRunError(
                f"{self.store.uri} keeps changing hands. Run the same command again."
            )
        self._refuse_store_without_conditions()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        if not self.lost:
            try:
                if self.store.read(LOCK_NAME)[1] == self._tag:
                    self.store.delete([LOCK_NAME])
            except (CannotRunError, FileNotFoundError, OSError):
                pass  # it goes stale by itself

    def _refuse_store_without_conditions(self) -> None:
        """Notice a store that passes over the conditions that keep two copies of a job apart.

        Raises:
            CannotRunError: it does.
        """
        for only_if, header in BROKEN_CONDITIONS.items():
            with contextlib.suppress(ConflictError):
                self.store.write(LOCK_NAME, self._content(), only_if=only_if)
                self.store.delete([LOCK_NAME])
                raise CannotRunError(
                    f"{self.store.uri} takes writes whose condition ({header}) does not hold, so "
                    "two copies of a job could spoil one output. Write to an S3 server that knows "
                    "conditional writes, or to a local folder (docs/batch.md)."
                )

    def check(self) -> None:
        """Raise LockLostError if another job has taken the output over."""
        if self.lost:
            raise LockLostError(
                f"Another copy of this job took over {self.store.uri}; this one has stopped. "
                "Nothing is lost; the other goes on."
            )

    def _take_over(self) -> bool:
        try:
            data, tag = self.store.read(LOCK_NAME)
            age_s = self.store.age_s(LOCK_NAME)
        except FileNotFoundError:
            return False
        holder = _parse(data)
        if age_s < STALE_AFTER_S and not _has_ended(holder):
            raise CannotRunError(
                f"Another job is writing to {self.store.uri} (process {holder.get('pid')} on "
                f"{holder.get('host')}, last sign of life {max(age_s, 0):.0f} s ago). Wait until "
                f"it ends; if it was killed, this command works {STALE_AFTER_S} s after that sign."
            )
        try:
            self._tag = self.store.write(LOCK_NAME, self._content(), only_if=tag)
        except ConflictError:
            return False
        return True

    def _content(self) -> bytes:
        return json.dumps(self._owner | {"at": datetime.now(UTC).isoformat()}).encode()

    def _keep_fresh(self) -> None:
        fresh_at = time.monotonic()
        while not self._done.wait(HEARTBEAT_S):
            try:
                self._tag = self.store.write(LOCK_NAME, self._content(), only_if=self._tag)
                fresh_at = time.monotonic()
            except ConflictError:
                self.lost = True
            except Exception:  # the store is away; the lock may outlive that
                self.lost = time.monotonic() - fresh_at > STALE_AFTER_S
            if self.lost:
                self._on_lost()
                return


def _this_process() -> dict[str, Any]:
    # The process-ID namespace tells containers on one host apart; the start time tells a process
    # from a later one with the same number.
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "namespace": _namespace(),
        "started": _start_time(os.getpid()),
    }


def _has_ended(holder: dict[str, Any]) -> bool:
    here = _this_process()
    if here["namespace"] is None or any(
        holder.get(name) != here[name] for name in ("host", "namespace")
    ):
        return False
    return bool(_start_time(int(holder["pid"])) != holder["started"])


def _namespace() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: only the heartbeat tells
        return None


def _start_time(pid: int) -> str | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]  # field 22 of proc(5), 20th after the name


def _parse(data: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(data)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
