"""The gate that asks whether the stated sensitivity is kept."""

from __future__ import annotations

from collections.abc import Mapping

from steps.gates.staging import Gate
from steps.registry.external import external_results

GATE = "sensitivity floor"
# Of a version's tags, see steps.registry.register.
SCORES = "score.sensitivity_floor."
SENSITIVITY = "score.sensitivity.value"


def sensitivity_floor_gate(tags: Mapping[str, str]) -> Gate | None:
    """Ask that no 95 % interval of a sensitivity lies below the sensitivity that was stated.

    A value below the stated one within its interval passes, and the sentence says so: a test split
    of some dozen scans misses a floor that is kept every other time.

    Args:
        tags: of the version, with the evaluation's scores and what external sets recorded.

    Returns:
        None for a version whose evaluation states no sensitivity.
    """
    try:
        stated, high = (float(tags[SCORES + name]) for name in ("stated", "upper_bound"))
        value = float(tags[SENSITIVITY] if SENSITIVITY in tags else tags[SCORES + "value"])
    except (KeyError, ValueError):
        return None
    measured = {"the test split": (value, high)}
    for name, result in external_results(tags).items():
        interval = result.get("sensitivity_ci95")
        if result.get("sensitivity") is not None and interval:
            measured[name] = (float(result["sensitivity"]), float(interval[1]))
    worst = min(measured, key=lambda name: measured[name][1])
    value, high = measured[worst]
    verdict = (
        "missed beyond chance" if high < stated else
        "not reached, within chance" if value < stated else "kept"
    )  # fmt: skip
    return Gate(
        GATE,
        high >= stated,
        f"sensitivity {value:.3f} on {worst}, at most {high:.3f} by its 95 % interval; "
        f"the stated {stated:.3f} is {verdict}",
        {"sensitivity": value, "upper_bound": high, "stated": stated},
    )
