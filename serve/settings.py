"""What the operator of a server chose."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve.limits import Limits


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
