"""No client can take every place, and nobody's scans are scored once nobody waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import requests
from requests.adapters import HTTPAdapter

from serve.counts import count_answers
from serve.http.errors import RefusalError
from serve.http.limits import LimitedRequests, address_of
from serve.http.places import Pool
from serve.http.request_facts import CURRENT, RequestFacts
from serve.http.request_limits import RequestLimits
from serve.scoring import BATCH_ROWS, BATCHES_AT_ONCE, ServedModel
from tests.serve.conftest import KEYS, png
from tests.serve.gate import Gate
from tests.serve.server_process import ServerProcess, running_serve


class From(HTTPAdapter):
    """Sends requests from an address of this machine."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Name the address to bind to."""
        super().init_poolmanager(*args, source_address=(self.address, 0), **kwargs)


def predict(
    server: ServerProcess, scan: bytes, address: str = "127.0.0.1", key: str | None = None
) -> int:
    session = requests.Session()
    session.mount("http://", From(address))
    headers = {"X-API-Key": key} if key else {}
    files = {"files": ("a", scan)}
    with session:
        answer = session.post(f"{server.url}/predict", files=files, headers=headers, timeout=60)
    return answer.status_code


def ask_until_refused(
    pool: ThreadPoolExecutor, ask: Callable[[], int], times: int, refused: int
) -> list[Future[int]]:
    """Start requests for scans that are held, and return once so many are refused."""
    asked = [pool.submit(ask) for _ in range(times)]
    for future in islice(as_completed(asked, timeout=60), refused):
        assert future.result() == 503
    return asked


def test_one_address_leaves_places_to_others(trial_model: Path, tmp_path: Path, gate: Gate) -> None:
    with running_serve(trial_model, tmp_path, "--max-in-flight", "4") as server:
        predict(server, png(9))
        with ThreadPoolExecutor(8) as pool:
            hog = ask_until_refused(pool, lambda: predict(server, gate.scan), 6, refused=4)
            assert predict(server, png(9), "127.0.0.2") == 200
            gate.open()
            assert sorted(f.result() for f in hog) == [200, 200, 503, 503, 503, 503]
        assert predict(server, png(9)) == 200


def test_one_key_leaves_places_to_others(trial_model: Path, tmp_path: Path, gate: Gate) -> None:
    options = ("--max-in-flight", "4")
    env = {"CHEST_CT_API_KEYS": ",".join(KEYS)}
    with running_serve(trial_model, tmp_path, *options, env=env) as server:
        predict(server, png(9), key=KEYS[0])
        with ThreadPoolExecutor(8) as pool:
            hogs = [
                future
                # a stolen key, from two places; each address has 2 places at most, the key 3
                for address, refused in (("127.0.0.1", 1), ("127.0.0.2", 2))
                for future in ask_until_refused(
                    pool, lambda a=address: predict(server, gate.scan, a, KEYS[0]), 3, refused
                )
            ]
            assert predict(server, png(9), "127.0.0.1", KEYS[1]) == 200
            gate.open()
            assert [f.result() for f in hogs].count(200) == 3


def test_shares() -> None:
    pool = Pool(8)
    assert all(pool.take(1, {"a": 0.5, "key": 0.75}) for _ in range(4))
    assert not pool.take(1, {"a": 0.5, "key": 0.75})
    assert all(pool.take(1, {"b": 0.5, "key": 0.75}) for _ in range(2))
    assert not pool.take(1, {"c": 0.5, "key": 0.75})
    assert all(pool.take(1, {"d": 0.5}) for _ in range(2))
    assert pool.full()
    pool.give_back(1, {"a": 0.5, "key": 0.75})
    assert pool.take(1, {"c": 0.5, "key": 0.75})
    assert Pool(1).take(1, {"a": 0.5})  # never less than one


def test_what_counts_as_one_address() -> None:
    def address(host: str) -> str:
        return address_of({"client": (host, 1)})

    assert address("10.0.0.1") != address("10.0.0.2")
    assert address("::ffff:10.0.0.1") == address("10.0.0.1")
    assert address("2001:db8::1") == address("2001:db8::ffff:1")
    assert address("2001:db8::1") != address("2001:db8:0:1::1")
    assert address_of({"client": None}) == ""


class Slow:
    """A model that notes its batches, and a client that hangs up during the first."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.metadata = SimpleNamespace(get_params_schema=lambda: None, get_input_schema=list)

    def predict(self, data: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Answer, and hang up."""
        self.batches.append(len(data))
        CURRENT.get().abandoned.set()
        return pd.DataFrame({"label": ["normal"] * len(data)})


def test_scoring_stops_between_batches() -> None:
    slow = Slow()
    CURRENT.set(RequestFacts())
    with pytest.raises(RefusalError, match="client_gone"):
        ServedModel(slow, RequestLimits()).predict(pd.DataFrame({"image": ["x"] * 200}))
    assert 1 <= len(slow.batches) <= BATCHES_AT_ONCE
    assert set(slow.batches) == {BATCH_ROWS}


class Pairs:
    """A model that answers a batch only while it has another one; the later one first."""

    metadata = Slow().metadata

    def __init__(self) -> None:
        self.meeting = threading.Barrier(BATCHES_AT_ONCE)
        self.with_it, self.most = 0, 0

    def predict(self, data: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Wait for another batch, and answer with the number of the row."""
        self.with_it += 1
        self.most = max(self.most, self.with_it)
        self.meeting.wait(30)
        number = int(data["image"][0])
        time.sleep(0.02 if number % 2 == 0 else 0)
        self.with_it -= 1
        return pd.DataFrame({"label": data["image"]})


def test_the_model_has_two_batches_at_a_time_while_the_next_is_made() -> None:
    made = 0
    ahead = []

    def frames() -> Iterator[pd.DataFrame]:
        nonlocal made
        for number in range(8):
            made += 1
            yield pd.DataFrame({"image": [str(number)]})

    CURRENT.set(RequestFacts())
    pairs = Pairs()
    answered = []
    for answer in ServedModel(pairs, RequestLimits()).parts(frames(), None):
        answered.append(answer["label"][0])
        ahead.append(made - len(answered))
    assert answered == [str(number) for number in range(8)]
    assert pairs.most == BATCHES_AT_ONCE
    assert max(ahead) == BATCHES_AT_ONCE, "one that the model still has, and the next"


def test_rows_of_series_stay_together() -> None:
    for frame, params in (
        (pd.DataFrame({"image": ["x"] * 200, "series": ["s"] * 200}), None),
        (pd.DataFrame({"image": ["x"] * 200}), {"series": True}),
    ):
        slow = Slow()
        CURRENT.set(RequestFacts())
        answer = ServedModel(slow, RequestLimits()).predict(frame, params)
        assert slow.batches == [200] == [len(answer)]


def test_a_timed_out_request_gives_its_place_back(
    trial_model: Path, tmp_path: Path, gate: Gate
) -> None:
    options = ("--max-in-flight", "1", "--request-timeout-s", "1")
    with running_serve(trial_model, tmp_path, *options) as server:
        predict(server, png(9))
        files = [("files", (str(i), gate.scan)) for i in range(200)]
        answer = requests.post(f"{server.url}/predict", files=files, timeout=60)
        assert answer.status_code == 504
        gate.open()
        while (status := predict(server, png(9))) == 503:
            time.sleep(0.02)
        assert status == 200
        assert gate.begun() < 200, "the batches after the first are not scored"


def test_hanging_up_gives_the_place_back(trial_model: Path, tmp_path: Path, gate: Gate) -> None:
    with running_serve(trial_model, tmp_path, "--max-in-flight", "1") as server:
        predict(server, png(9))
        files = [("files", (str(i), gate.scan)) for i in range(200)]
        with pytest.raises(requests.Timeout):
            requests.post(f"{server.url}/predict", files=files, timeout=0.5)
        gate.open()
        while predict(server, png(9)) == 503:
            time.sleep(0.02)
        assert server.logged("error=client_gone")
        assert gate.begun() < 200, "the batches after the first are not scored"


def test_each_row_counts_as_one_kind_of_answer() -> None:
    frame = pd.DataFrame(
        {
            "label": ["normal", "normal", "cancer", None, "cancer"],
            "error": [None, None, None, "broken", None],
            "out_of_domain": [False, True, True, None, False],
            "undecided": [False, False, True, None, True],
        },
        dtype=object,
    )
    CURRENT.set(facts := RequestFacts())
    count_answers(frame)
    kinds = {"answered": 1, "out_of_domain": 2, "failed": 1, "undecided": 1}
    assert facts.answers == kinds
    assert facts.labels == {"normal": 1}
    CURRENT.set(facts := RequestFacts())
    count_answers(frame.drop(columns=["undecided", "out_of_domain"]))  # of an older layout
    assert facts.answers == {"answered": 4, "failed": 1}
    assert facts.labels == {"normal": 2, "cancer": 2}


def test_shares_follow_the_options() -> None:
    def share(**chosen: int) -> float:
        return RequestLimits(**chosen).share_of_client

    assert share() == 0.5
    assert share(max_in_flight=4, max_in_flight_per_client=3) == 0.75
    assert share(max_in_flight=4, max_in_flight_per_client=9) == 1
    assert LimitedRequests(lambda *_: None, RequestLimits(), keys=1).several_keys is False  # type: ignore[arg-type,return-value]
