"""Who may ask: API keys, and which other web sites."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.bodies import refuse_unread
from serve.http.errors import RefusalError, wants_html
from serve.http.request_facts import current

KEYS_VARIABLE = "CHEST_CT_API_KEYS"
HEALTH_PATHS = {"/ping", "/health"}
# The page's own code: no model, no data. It has to run before it can ask for a key.
PAGE_PATH, PAGE_FILES = "/", "/static/"


def parse_keys(text: str, source: str) -> list[str]:
    """Return the keys in `text`, one a line or separated by commas; `#` starts a comment line.

    Args:
        text: the content of a key file or of the environment variable.
        source: what an error message calls it.

    Raises:
        ValueError: a key is not printable ASCII, or holds a space.
    """
    lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
    keys = [key.strip() for line in lines for key in line.split(",") if key.strip()]
    for number, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                f"Expected keys of printable ASCII without spaces in {source}; "
                f"key number {number} is not. Write one key a line."
            )
    return keys


def read_keys(key_file: Path | None, environment_text: str | None) -> list[str]:
    """Return the API keys from a file and from the environment variable, both if both are given.

    Raises:
        ValueError: the file cannot be read, holds no key, or holds one that no header can carry.
    """
    keys = parse_keys(environment_text or "", KEYS_VARIABLE)
    if key_file is not None:
        try:
            text = key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ValueError(f"The key file {key_file} cannot be read: {reason}.") from error
        in_file = parse_keys(text, str(key_file))
        if not in_file:
            raise ValueError(f"Expected at least one key in {key_file}, one a line; found none.")
        keys += in_file
    return keys


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def presented_key(headers: Headers) -> str | None:
    """Return the key a request carries, or None.

    `X-API-Key` and `Authorization: Bearer` are for programs and for the page. `Basic`, with the
    key as its password, is what a browser can send for the form without JavaScript and for /docs.
    """
    if key := headers.get("x-api-key"):
        return key.strip()
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


class KeyCheck:
    """ASGI middleware: 401 without one of the keys, except for health and the page's own code."""

    def __init__(self, app: ASGIApp, keys: list[str]) -> None:
        self.app = app
        # Digests have one length, so the comparison's time tells nothing about a key's length.
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def _known(self, key: str) -> bool:
        given = hashlib.sha256(key.encode()).digest()
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        return any(matches)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        path = scope["path"]
        open_to_all = path in HEALTH_PATHS | {PAGE_PATH} or path.startswith(PAGE_FILES)
        if open_to_all or not self._digests:
            return await self.app(scope, receive, send)
        key = presented_key(Headers(scope=scope))
        if key is not None and self._known(key):
            return await self.app(scope, receive, send)
        received = "no key" if key is None else "a key it does not know"
        # Only a navigating browser is asked for Basic: in answer to a script's fetch it would
        # open the browser's own dialogue over the page's.
        challenge = "Basic" if wants_html(scope) else "Bearer"
        current().error_kind = "unauthorized"
        refusal = RefusalError(
            401,
            "unauthorized",
            f"This server expects an API key and received {received}: send it as "
            "X-API-Key or as Authorization: Bearer.",
            {"WWW-Authenticate": f'{challenge} realm="chest-ct"'},
        )
        return await refuse_unread(scope, receive, send, refusal)


def same_origin(headers: Headers) -> bool:
    """Return whether a request comes from this server's own page, or from no web page at all.

    `Sec-Fetch-Site` is the browser's own word and survives proxies; browsers leave it out on
    plain HTTP, where `Origin` is compared with the host that was asked for.
    """
    if site := headers.get("sec-fetch-site"):
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    hosts = {headers.get("host"), headers.get("x-forwarded-host")}
    return origin is None or urlsplit(origin).netloc in hosts


class SameOrigin:
    """ASGI middleware: refuses what other web sites send, except from allowed origins."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self.app = app
        self._allowed = set(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        headers = Headers(scope=scope)
        allowed = bool(self._allowed & {"*", headers.get("origin")})
        reads_only = scope["method"] in {"GET", "HEAD"}
        if reads_only or allowed or same_origin(headers):
            return await self.app(scope, receive, send)
        current().error_kind = "cross_origin"
        refusal = RefusalError(
            403,
            "cross_origin",
            "This server takes requests from its own page and from programs, not from other "
            "web sites; its operator can allow one with --allow-origin.",
        )
        return await refuse_unread(scope, receive, send, refusal)
