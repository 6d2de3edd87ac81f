"""Bytes of a scan from the text that senders really send; mistakes are named."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from model.decoding.errors import ScanError
from model.decoding.scan_file import scan_bytes
from tests.model.test_images import GREY_PNG, encode

NOISE = encode(
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 65), dtype=np.uint8)), "PNG"
)
TEXT = base64.b64encode(NOISE).decode()
MIME = base64.encodebytes(NOISE).decode()
FORMS = {
    "tensorflow-serving": {"b64": TEXT},
    "tensorflow-serving, bytes": {"b64": TEXT.encode()},
    "tensorflow-serving, as mlflow writes it": str({"b64": TEXT}),
    "tensorflow-serving, as json": json.dumps({"b64": MIME}),
    "text left as bytes": TEXT.encode(),
    "lines left as bytes": MIME.encode(),
    "data uri left as bytes": f"data:image/png;base64,{TEXT}".encode(),
    "str of bytes": str(TEXT.encode()),
    "repr with double quotes": f'b"{TEXT}"',
    "repr of lines": str(MIME.encode()),
    "percent-encoded": quote(TEXT, safe=""),
    "percent-encoded data uri": "data:image/png;base64," + quote(TEXT, safe=""),
    "percent-encoded bytes": "data:image/png," + quote(NOISE, safe=""),
    "a form's blanks": TEXT.replace("+", " "),
    "a form's blanks, unpadded": TEXT.rstrip("=").replace("+", " "),
    "a form's blanks between lines": MIME.replace("+", " "),
    "a form's blanks in a data uri": "data:image/png;base64," + TEXT.replace("+", " "),
    "lines joined by blanks": " ".join(re.findall(".{1,76}", TEXT)),
}


def test_the_text_has_what_forms_spoil() -> None:
    assert TEXT.count("+") > 8
    assert "/" in TEXT
    assert len(NOISE) % 3 != 0


@pytest.mark.parametrize("form", FORMS)
def test_what_has_one_meaning_is_taken(form: str) -> None:
    assert scan_bytes(FORMS[form]) == NOISE


@pytest.mark.parametrize("blanks", range(1, 9))
def test_any_number_of_blanks_is_put_right(blanks: int) -> None:
    rng = np.random.default_rng(blanks)
    for size in (997, 998, 999):
        data = rng.integers(0, 256, size, dtype=np.uint8)
        text = list(base64.b64encode(data).decode().replace("+", "A"))
        for place in rng.choice(len(text) - 4, blanks, replace=False):
            text[place] = "+"
        sent = "".join(text)
        assert scan_bytes(sent.replace("+", " ")) == base64.b64decode(sent)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ({"b64": 3}, "base64 text>"),
        ({"path": "jane.png"}, "base64 text>"),
        ({"b64": TEXT, "name": "jane"}, "base64 text>"),
        ("https://example.org/jane.png", "not its address"),
        ("s3://bucket/jane.png", "not its address"),
        (GREY_PNG.hex(), "not as hexadecimal digits"),
        ("scans/jane.png", "not its name"),
        (TEXT[:7] + " " + TEXT[10:], "percent-encode"),
    ],
)
def test_mistakes_are_named(value: object, advice: str) -> None:
    with pytest.raises(ScanError, match=re.escape(advice)) as caught:
        scan_bytes(value)
    assert "jane" not in str(caught.value)


def test_bytes_that_pass_for_text_but_hold_no_file_stay_as_they_are() -> None:
    data = base64.b64encode(b"no picture at all, but long enough to be looked at")
    assert scan_bytes(data) == data
