"""The bytes of a scan's file, from what senders really send: bytes, or base64 text of them.

What has one meaning is taken. What could mean two things, or none, is refused with a sentence
that names the mistake.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from urllib.parse import unquote, unquote_to_bytes

import numpy as np

from .errors import ScanError
from .file_kinds import ACCEPTED
from .pictures import picture_kind

B64_KEY = "b64"  # TensorFlow Serving's form: {"b64": "..."}
PYTHON_BYTES = re.compile(r"""\s*b(['"])(.*)\1\s*""", re.DOTALL)
PYTHON_B64 = re.compile(r"""\s*\{\s*['"]b64['"]\s*:\s*(b?(['"]).*\2)\s*\}\s*""", re.DOTALL)
DATA_URI = re.compile(r"\s*data:([^,]{0,200}),", re.IGNORECASE)
URL = re.compile(r"\s*(https?|s3|gs|file|ftp)://", re.IGNORECASE)
LINE_BREAK = re.compile(r"[\r\n\t\f\v]+")
BASE64_START = re.compile(rb"[A-Za-z0-9+/_-]{32}")
HEX_SIGNATURES = ("89504e47", "ffd8ff", "49492a00", "4d4d002a", "0x89504e47", "0xffd8ff")


def scan_bytes(image: object) -> bytes:
    """Return the bytes of a scan's file.

    Args:
        image: the bytes, or base64 text of them. Line breaks, a `data:…;base64,` prefix, percent
            encoding, the URL-safe alphabet, missing padding, `+` that a form turned into blanks,
            Python's `b'…'` around the text, text left as bytes, and `{"b64": "…"}` are tolerated.

    Raises:
        ScanError: when it is missing, empty, of another type or not base64.
    """
    if isinstance(image, dict):
        if list(image) != [B64_KEY] or not isinstance(image[B64_KEY], str | bytes):
            raise ScanError(
                "wrong_type",
                "Expected the bytes of a scan's file or base64 text of them, received a value of "
                f'type dict; send {{"{B64_KEY}": "<base64 text>"}} or the text alone.',
            )
        image = image[B64_KEY]
    if isinstance(image, bytes | bytearray | memoryview):
        data = _unwrapped(bytes(image))
    elif isinstance(image, str):
        data = _base64_bytes(image)
    elif image is None or (isinstance(image, float) and np.isnan(image)):
        data = b""
    else:
        raise ScanError(
            "wrong_type",
            f"Expected the bytes of a scan's file or base64 text of them, received a value of type "
            f"{type(image).__name__}; send the file's content.",
        )
    if not data:
        raise ScanError("empty", f"Expected {ACCEPTED}, received nothing; send the file's content.")
    return data


def _unwrapped(data: bytes) -> bytes:
    """Decode base64 text that was left as bytes, where a known file comes out of it."""
    start = data[:40].lstrip()
    if not (BASE64_START.match(start) or start.lower().startswith((b"data:", b"b'", b'b"'))):
        return data
    with contextlib.suppress(ScanError, UnicodeDecodeError):
        found = _base64_bytes(data.decode("ascii"))
        if found[128:132] == b"DICM" or picture_kind(found) is not None:
            return found
    return data


def _base64_bytes(text: str) -> bytes:
    """Decode base64 text as senders really write it."""
    with contextlib.suppress(ValueError):
        if not text[:10].lower().startswith(HEX_SIGNATURES):
            return base64.b64decode(text, validate=True)  # most of it: as RFC 4648 has it
    length = len(text)
    if written := PYTHON_B64.fullmatch(text):  # what MLflow's server makes of {"b64": "…"}
        text = written[1] if written[1].startswith("b") else f"b{written[1]}"
    if quoted := PYTHON_BYTES.fullmatch(text):
        text = quoted[2].replace("\\n", "\n")
    if uri := DATA_URI.match(text):
        text = text[uri.end() :]
        if not uri[1].lower().rstrip().endswith(";base64") and "%" in text:
            return unquote_to_bytes(text)  # RFC 2397: the bytes themselves, percent-encoded
    if "%" in text:
        text = unquote(text)
    _refuse_what_is_no_base64(text, length)
    compact = _without_breaks(text).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _not_base64(length, "encode the file's content, not its name") from None


def _without_breaks(text: str) -> str:
    """Take line breaks out, and put `+` back where a form turned it into a blank.

    Blanks stand for `+` where only so many characters make whole groups of four. Where the count
    does not tell, blanks at equal distances are where lines were joined.
    """
    broken = LINE_BREAK.split(text.strip())
    indented = len({len(line) for line in broken[:-1]}) > 1
    text = "".join(line.strip() for line in broken) if indented else "".join(broken)
    lines = text.split(" ")
    removed, restored = "".join(lines), "+".join(lines)
    if len(lines) < 2:
        return text
    fits_removed, fits_restored = len(removed) % 4 == 0, len(restored) % 4 == 0
    if fits_removed != fits_restored:
        return removed if fits_removed else restored
    if not fits_restored and restored.endswith("="):
        raise ScanError(
            "not_base64",
            f"Expected base64 text of a scan's file, received {len(text)} characters with blanks "
            "in it, as a form makes of '+'; percent-encode '+' as %2B.",
        )
    length = len(lines[0])
    joined = all(len(line) == length for line in lines[:-1]) and len(lines[-1]) <= length
    return removed if joined and length % 4 == 0 else restored


def _refuse_what_is_no_base64(text: str, length: int) -> None:
    """Name mistakes that are not base64 and might pass for it."""
    start = text[:64].strip()
    if URL.match(start):
        raise _not_base64(length, "send the file's content, not its address")
    if start.lower().startswith(HEX_SIGNATURES) and re.fullmatch(r"(0x)?[0-9a-fA-F]+", start):
        raise _not_base64(length, "encode the file's bytes as base64, not as hexadecimal digits")


def _not_base64(length: int, advice: str) -> ScanError:
    return ScanError(
        "not_base64",
        f"Expected base64 text of a scan's file, received {length} characters that are not "
        f"base64; {advice}.",
    )
