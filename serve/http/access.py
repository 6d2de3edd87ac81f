"""Who may ask: API keys, which other web sites, and under which names of this server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.bodies import refuse_unread
from serve.http.errors import RefusalError, wants_html
from serve.http.request_facts import current

KEYS_VARIABLE = "CHEST_CT_API_KEYS"
HEALTH_PATHS = {"/ping", "/health", "/readyz"}
# The page's own code: no model, no data. It has to run before it can ask for a key.
PAGE_PATH, PAGE_FILES = "/", "/static/"
HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(:\d*)?")


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
        text = read_private(key_file)
        in_file = parse_keys(text, str(key_file))
        if not in_file:
            raise ValueError(f"Expected at least one key in {key_file}, one a line; found none.")
        keys += in_file
    return keys


def read_private(path: Path) -> str:
    """Return the text of a file that nobody but its owner, and perhaps a group, may read.

    A group may read it, since secrets are mounted into containers so; ssh's rule is stricter for
    files of one's own, and so is this one.

    Raises:
        ValueError: the file cannot be read, or too many may read it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            own = status.st_uid == os.geteuid()
            others = status.st_mode & (0o077 if own else 0o007)
            if others and stat.S_ISREG(status.st_mode):
                raise ValueError(
                    f"Expected a key file that others cannot read; {path} has the permissions "
                    f"{stat.S_IMODE(status.st_mode):04o}. Type: chmod 600 {path}"
                )
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"The key file {path} cannot be read: {reason}.") from error


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
        except ValueError:  # no base64, or base64 of what is no text
            return None
    return None


class KeyCheck:
    """ASGI middleware: 401 without one of the keys, except for health and the page's own code."""

    def __init__(self, app: ASGIApp, keys: list[str]) -> None:
        self.app = app
        # Digests have one length, so the comparison's time tells nothing about a key's length.
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def _number(self, key: str) -> int | None:
        given = hashlib.sha256(key.encode()).digest()
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        return matches.index(True) if any(matches) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        path = scope["path"]
        open_to_all = path in HEALTH_PATHS | {PAGE_PATH} or path.startswith(PAGE_FILES)
        if open_to_all or not self._digests:
            return await self.app(scope, receive, send)
        key = presented_key(Headers(scope=scope))
        number = None if key is None else self._number(key)
        if number is not None:
            current().key_number = number
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
    if origin is None:
        return True
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:  # such as http://[::1
        return False
    return netloc in {headers.get("host"), headers.get("x-forwarded-host")}


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


def host_name(header: str) -> str:
    """Return the name in a `Host` header, in lower case, without port, brackets and last dot."""
    found = HOST.fullmatch(header.strip().lower())
    if found is None:
        return header
    return found["address"] or found["name"].rstrip(".")


def is_address(name: str) -> bool:
    """Return whether a host is named by its IP address, which no other web site's name can be."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class HostCheck:
    """ASGI middleware: refuses requests that address the server by a name that is not its own.

    A web page elsewhere can let its own name point at this machine (DNS rebinding). The browser
    then takes the server for that page's own, but still sends that page's name as `Host`.

    Args:
        app: what answers.
        listens_on: a server on loopback is addressed as localhost; one on another address by its
            IP address or by a name without a dot as well, since no web site has such a name.
        allowed: further names; `*` allows every name.
        keyed: whether requests need an API key; then any name will do on an address that is not
            loopback, since a rebinding page has no key.
    """

    def __init__(
        self, app: ASGIApp, listens_on: str, allowed: tuple[str, ...] = (), keyed: bool = False
    ) -> None:
        self.app = app
        self._allowed = {host_name(name) for name in allowed}
        self._local_only = is_loopback(listens_on)
        self._every = "*" in allowed or (keyed and not self._local_only and not allowed)

    def _known(self, name: str) -> bool:
        if self._every or name in self._allowed or is_loopback(name):
            return True
        return not self._local_only and (is_address(name) or "." not in name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 421."""
        header = Headers(scope=scope).get("host")
        if header is None or self._known(host_name(header)):  # HTTP/1.0 may leave it out
            return await self.app(scope, receive, send)
        current().error_kind = "unknown_host"
        refusal = RefusalError(
            421,
            "unknown_host",
            "Expected a Host header that names this server, such as localhost; received another "
            "name: its operator can allow one with --allowed-hosts.",
        )
        return await refuse_unread(scope, receive, send, refusal)
