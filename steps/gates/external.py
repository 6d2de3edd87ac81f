"""The gate that asks for a score where the model was not trained."""

from __future__ import annotations

from collections.abc import Mapping

from steps.gates.staging import Gate
from steps.registry.external import external_results

GATE = "external"


def external_gate(number: int, model: str, tags: Mapping[str, str], floor: float) -> Gate:
    """Ask every external set's AUC to be surely above a floor, and at least one set.

    The set with the lowest bound decides: the best of several would always be found.

    Args:
        number: the version.
        model: name of the registered model.
        tags: of the version.
        floor: that the lower end of each AUC's 95 % interval is to reach, 0-1.
    """
    results = external_results(tags)
    bounds = {
        name: result["roc_auc_ci95"][0]
        for name, result in results.items()
        if result.get("roc_auc_ci95")
    }
    if not bounds:
        why = (
            f"the external sets of version {number} ({', '.join(results)}) have one class each, "
            "which gives no AUC"
            if results
            else f"version {number} was scored on no scans from elsewhere"
        )
        return Gate(
            GATE,
            False,
            f"{why}; do so with: mlflow run . -e external_evaluation "
            f"-P model_uri=models:/{model}/{number} -P name=NAME -P source=SCANS",
        )
    worst = min(bounds, key=lambda name: bounds[name])
    sentence = (
        f"AUC {results[worst]['roc_auc']:.3f} on {results[worst]['scans']} scans of {worst}, "
        f"95 % lower bound {bounds[worst]:.3f}, at least {floor:.3f} is asked"
    )
    if len(bounds) > 1:
        sentence += f"; the lowest of {len(bounds)} external sets"
    return Gate(
        GATE,
        bounds[worst] >= floor,
        sentence,
        {"roc_auc": results[worst]["roc_auc"], "lower_bound": bounds[worst], "floor": floor},
    )
