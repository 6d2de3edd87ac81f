"""What external evaluations left with a version: a tag for each set of scans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TAG_PREFIX = "external."  # of a version's tags: external.<name of the set>, a JSON object


def external_results(tags: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return what was recorded with a version, by the name of each external set."""
    return {
        key.removeprefix(TAG_PREFIX): json.loads(value)
        for key, value in sorted(tags.items())
        if key.startswith(TAG_PREFIX)
    }
