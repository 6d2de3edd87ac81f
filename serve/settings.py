"""What the operator of a server chose."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """The bounds of one server process.

    Args:
        max_body_bytes: largest request body.
        max_rows: most scans in one request.
        max_in_flight: most requests that are scored, or wait to be, at one time. Four times as
            many bodies may be arriving meanwhile, so slow senders do not take others' places.
        request_timeout_s: longest time from the whole body to the answer, in seconds.
        body_grace_s: time a body gets before its rate counts, in seconds.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_rows: int = 256
    max_in_flight: int = 16
    request_timeout_s: float = 60.0
    body_grace_s: float = 20.0


@dataclass(frozen=True)
class ServerSettings:
    """What the operator chose.

    Args:
        limits: bounds on what one client can take.
        keys: API keys; none means that everybody may ask.
        allowed_origins: other web sites whose scripts may call this server.
    """

    limits: Limits = field(default_factory=Limits)
    keys: tuple[str, ...] = field(default=(), repr=False)
    allowed_origins: tuple[str, ...] = ()
