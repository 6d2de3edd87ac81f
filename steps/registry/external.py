"""What external evaluations left with a version: a tag for each set of scans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from steps.registry.errors import RegistryError

TAG_PREFIX = "external."  # of a version's tags: external.<name of the set>, a JSON object


def external_results(tags: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return what was recorded with a version, by the name of each external set.

    Raises:
        RegistryError: a tag is not what an external evaluation writes.
    """
    found = {}
    for key, value in sorted(tags.items()):
        if not key.startswith(TAG_PREFIX):
            continue
        try:
            found[key.removeprefix(TAG_PREFIX)] = _result(json.loads(value))
        except (ValueError, TypeError) as error:
            raise RegistryError(
                f"The version's tag '{key}' is not what an external evaluation writes (was it "
                "edited by hand?); run that external evaluation again, or delete the tag in the "
                "MLflow page."
            ) from error
    return found


def _result(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or "scans" not in value:
        raise TypeError(f"expected an object with scans, received {value!r}")
    return value
