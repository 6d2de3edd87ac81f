"""What the operator of a server chose."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve.http.request_limits import RequestLimits


@dataclass(frozen=True)
class ServerSettings:
    """What the operator chose.

    Args:
        limits: bounds on what one client can take.
        keys: API keys; none means that everybody may ask.
        allowed_origins: other web sites whose scripts may call this server.
        host: address that the server listens on; it decides which `Host` headers are taken.
        allowed_hosts: further names under which clients may address the server.
        log_format: `text` or `json`, see logs/lines.py.
    """

    limits: RequestLimits = field(default_factory=RequestLimits)
    keys: tuple[str, ...] = field(default=(), repr=False)
    allowed_origins: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    log_format: str = "text"
