"""API keys, other web sites, and security headers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import requests

from serve.http.access import HostCheck, host_name, is_loopback, parse_keys, read_keys
from tests.serve.conftest import KEYS, png
from tests.serve.raw_http import send
from tests.serve.server_process import ServerProcess

PROTECTED = ("/model", "/metrics", "/version", "/docs", "/openapi.json", "/docs/swagger-ui.css")
OPEN = ("/ping", "/health", "/", "/static/page.js", "/static/page.css", "/static/icon.svg")


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()


@pytest.mark.parametrize("path", PROTECTED)
def test_everything_but_health_and_the_pages_code_needs_a_key(
    path: str, keyed_server: ServerProcess
) -> None:
    url = keyed_server.url + path
    assert requests.get(url, timeout=10).status_code == 401
    for key in KEYS:
        for name, value in (
            ("X-API-Key", key),
            ("Authorization", f"Bearer {key}"),
            ("Authorization", basic(key)),
        ):
            assert requests.get(url, headers={name: value}, timeout=10).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_health_and_the_pages_code_are_open(path: str, keyed_server: ServerProcess) -> None:
    assert requests.get(keyed_server.url + path, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEYS[0] + "x"},
        {"X-API-Key": KEYS[0][:-1]},
        {"X-API-Key": KEYS[0].upper()},
        {"Authorization": KEYS[0]},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer kлюч".encode()},
    ],
    ids=lambda headers: next(iter(headers), "none"),
)
def test_scoring_without_a_known_key(headers: dict[str, str], keyed_server: ServerProcess) -> None:
    for path in ("/predict", "/invocations"):
        answer = requests.post(keyed_server.url + path, headers=headers, data=b"x", timeout=10)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert KEYS[0] not in answer.text


def test_a_large_upload_with_a_wrong_key_still_reads_why(keyed_server: ServerProcess) -> None:
    url = f"{keyed_server.url}/predict"
    files = {"files": ("a", bytes(20 * 1024 * 1024))}
    answer = requests.post(url, headers={"X-API-Key": "wrong"}, files=files, timeout=30)
    assert answer.status_code == 401


def test_only_a_browser_that_navigates_is_asked_for_basic(keyed_server: ServerProcess) -> None:
    answer = requests.get(f"{keyed_server.url}/docs", headers={"Accept": "text/html"}, timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_the_form_without_javascript_gets_through_with_basic(keyed_server: ServerProcess) -> None:
    url, files = f"{keyed_server.url}/predict", {"files": ("a.png", png(50))}
    headers = {"Accept": "text/html", "Origin": keyed_server.url}
    refused = requests.post(url, files=files, headers=headers, timeout=30)
    assert refused.headers["WWW-Authenticate"].startswith("Basic")
    headers["Authorization"] = basic(KEYS[0])
    assert "Results for 1 scan" in requests.post(url, files=files, headers=headers, timeout=30).text


def test_keys_never_reach_the_log(keyed_server: ServerProcess) -> None:
    wrong = "a-wrong-key-somebody-tried"
    for key in (*KEYS, wrong):
        headers = {"X-API-Key": key}
        requests.get(f"{keyed_server.url}/model?key={key}", headers=headers, timeout=10)
    assert keyed_server.logged("GET /model status=200")
    assert keyed_server.logged("GET /model status=401")
    log = keyed_server.log()
    assert not [key for key in (*KEYS, wrong) if key in log]


def test_key_text() -> None:
    assert parse_keys("# note\na\n\n b \nc,d\n", "here") == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="key number 2") as refusal:
        parse_keys("fine\nnot so fine", "here")
    assert "not so fine" not in str(refusal.value)


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))


def post(server: ServerProcess, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    files = {"files": ("a.png", png(50))}
    return requests.post(f"{server.url}/predict", files=files, headers=named, timeout=30)


def test_other_web_sites_may_not_post(trial_server: ServerProcess) -> None:
    assert post(trial_server).status_code == 200
    assert post(trial_server, Origin=trial_server.url).status_code == 200
    assert post(trial_server, Sec_Fetch_Site="same-origin", Origin="https://x").status_code == 200
    proxied = {"Origin": "https://ct.example", "X_Forwarded_Host": "ct.example"}
    assert post(trial_server, **proxied).status_code == 200
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Origin": trial_server.url},
    ):
        answer = post(trial_server, **headers)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_allowed_web_site_may_post(keyed_server: ServerProcess) -> None:
    origin = "https://pacs.example"
    preflight = requests.options(
        f"{keyed_server.url}/predict",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "X-API-Key",
        },
        timeout=10,
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    answer = post(keyed_server, Origin=origin, Sec_Fetch_Site="cross-site", X_API_Key=KEYS[0])
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    refused = post(keyed_server, Origin="https://evil.example", X_API_Key=KEYS[0])
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/docs", "/model", "/ping", "/nothing"])
def test_security_headers(path: str, trial_server: ServerProcess) -> None:
    headers = requests.get(trial_server.url + path, timeout=10).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666, 0o660])
def test_a_key_file_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key-of-this-test\n")
    file.chmod(mode)
    with pytest.raises(ValueError, match=f"{mode:04o}.*chmod 600") as refusal:
        read_keys(file, None)
    assert "a-key-of-this-test" not in str(refusal.value)
    file.chmod(0o600)
    assert read_keys(file, None) == ["a-key-of-this-test"]
    file.chmod(0o400)
    assert read_keys(file, None) == ["a-key-of-this-test"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil.example", "x",
     "localhost@evil.example", "[", "10.0.0.1", "[::1].evil.example", "0.0.0.0"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/model", "/", "/ping"])
def test_a_name_that_rebinds_dns_is_refused(
    host: str, path: str, trial_server: ServerProcess
) -> None:
    answer = send(trial_server, "GET", path, headers={"Host": host})
    assert answer.status == 421
    assert b"--allowed-hosts" in answer.body
    assert host.encode() not in answer.body or host in "x["


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:99", "localhost.", "127.0.0.1", "[::1]:9"]
)
def test_loopback_names_are_taken(host: str, trial_server: ServerProcess) -> None:
    assert send(trial_server, "GET", "/model", headers={"Host": host}).status == 200


def known(name: str, *arguments: Any, **options: Any) -> bool:
    return HostCheck(lambda *_: None, *arguments, **options)._known(host_name(name))  # type: ignore[arg-type,return-value]


def test_names_on_other_addresses() -> None:
    assert known("10.0.0.7:5000", "0.0.0.0")
    assert known("[2001:db8::1]", "::")
    assert known("ct-server:5000", "0.0.0.0")
    assert not known("ct.hospital.example", "0.0.0.0")
    assert known("ct.hospital.example", "0.0.0.0", keyed=True)
    assert not known("ct.hospital.example", "127.0.0.1", keyed=True)
    assert known("CT.hospital.example:443", "127.0.0.1", ("ct.hospital.example",))
    assert not known("other.example", "0.0.0.0", ("ct.hospital.example",), keyed=True)
    assert known("other.example", "127.0.0.1", ("*",))
