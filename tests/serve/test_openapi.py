"""The API's description: every request, answer and error, as they really are."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import requests

from tests.serve.conftest import KEYS, png
from tests.serve.server_process import ServerProcess
from tests.serve.test_predict import post
from tests.serve.test_series import series_of

ROUTES = {
    "/predict": ("post", "predict"),
    "/series": ("post", "answer_series"),
    "/pixels": ("post", "get_pixels"),
    "/invocations": ("post", "invocations"),
    "/model": ("get", "get_model"),
    "/metrics": ("get", "get_metrics"),
    "/ping": ("get", "ping"),
    "/health": ("get", "health"),
    "/readyz": ("get", "ready"),
    "/version": ("get", "get_version"),
}
SCORING = ("/predict", "/series", "/pixels", "/invocations")


@pytest.fixture(scope="module")
def document(trial_server: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{trial_server.url}/openapi.json", timeout=10).json()
    return found


def check(value: Any, name: str, document: dict[str, Any]) -> None:
    """Check a value against a schema of the description, and that no field is undescribed."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)


def test_every_route_has_a_readable_operation(document: dict[str, Any]) -> None:
    found = {
        path: (method, operation["operationId"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert found == ROUTES
    assert document["openapi"].startswith("3.1")
    text = str(document).lower()
    for words in ("mlflow.pyfunc", "docstring", "todo", "validation error", "string concat"):
        assert words not in text
    for path, (method, _) in ROUTES.items():
        operation = document["paths"][path][method]
        assert operation["summary"] and operation["tags"]
        assert "description" not in operation


def test_answers_are_as_described(trial_server: ServerProcess, document: dict[str, Any]) -> None:
    known = document["components"]["schemas"]
    slices = [*series_of(4).items(), ("b.txt", b"junk")]
    answer = post(trial_server, *slices, query="?explain=true").json()
    check(answer, "Answer", document)
    assert set(answer) == set(known["Answer"]["properties"])
    assert set(answer["predictions"][0]) == set(known["FileRow"]["properties"])
    assert set(answer["series"][0]) == set(known["SeriesEntry"]["properties"])
    rows = {"rows": answer["predictions"]}
    check(rows, "SeriesRequest", document)
    entries = requests.post(f"{trial_server.url}/series", json=rows, timeout=30).json()
    check(entries, "SeriesAnswer", document)
    about = requests.get(f"{trial_server.url}/model", timeout=10).json()
    check(about, "Model", document)
    request = {"dataframe_records": [{"image": "aGk="}], "params": {"threshold": 0.4}}
    check(request, "InvocationsRequest", document)
    url = f"{trial_server.url}/invocations"
    check(requests.post(url, json=request, timeout=30).json(), "Rows", document)
    check(requests.post(url, json={"rows": []}, timeout=30).json(), "Error", document)


def test_requests_and_errors(document: dict[str, Any]) -> None:
    paths = document["paths"]
    for path in SCORING:
        operation = paths[path]["post"]
        assert operation["requestBody"]["required"] is True
        responses = operation["responses"]
        expected = {"200", "400", "403", "408", "413", "415", "421", "500", "503", "504"}
        assert set(responses) - {"422", "501"} == expected
        for status in set(responses) - {"200"}:
            content = responses[status]["content"]["application/json"]["schema"]
            assert content == {"$ref": "#/components/schemas/Error"}
    form = paths["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["files"]
    names = {p["name"]: p["schema"]["type"] for p in paths["/predict"]["post"]["parameters"]}
    assert names == {"explain": "boolean", "threshold": "number", "series": "boolean"}
    for path in ("/metrics", "/version", "/ping", "/health", "/readyz"):
        assert list(paths[path]["get"]["responses"]["200"]["content"]) == ["text/plain"]


def test_media_types_are_those_that_are_sent(
    trial_server: ServerProcess, document: dict[str, Any]
) -> None:
    for path, (method, _) in ROUTES.items():
        if method == "get":
            answer = requests.get(trial_server.url + path, timeout=10)
            described = document["paths"][path]["get"]["responses"]["200"]["content"]
            assert answer.headers["content-type"].split(";")[0] in described, path
    files = {"files": ("a.png", png(9))}
    described = document["paths"]["/pixels"]["post"]["responses"]["200"]["content"]
    for query in ("", "?format=png"):
        answer = requests.post(f"{trial_server.url}/pixels{query}", files=files, timeout=10)
        assert answer.headers["content-type"] in described


def test_a_server_with_keys_describes_them(keyed_server: ServerProcess) -> None:
    url = f"{keyed_server.url}/openapi.json"
    document = requests.get(url, headers={"X-API-Key": KEYS[0]}, timeout=10).json()
    assert set(document["components"]["securitySchemes"]) == {"key", "bearer"}
    assert document["security"] == [{"key": []}, {"bearer": []}]
    assert "401" in document["paths"]["/predict"]["post"]["responses"]
    for path in ("/ping", "/health", "/readyz"):
        assert document["paths"][path]["get"]["security"] == []
        assert "401" not in document["paths"][path]["get"]["responses"]
        assert requests.get(keyed_server.url + path, timeout=10).status_code == 200
