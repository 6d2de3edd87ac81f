"""How fast the network is by input size and by whose maps it gives: for benchmarks/recipe.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

BATCH, ROUNDS = 16, 5
REFERENCE = (224, "root5")
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}

Inference = tuple[openvino.CompiledModel, NDArray[np.uint8]]


def relative_speeds(
    networks: Mapping[int, Path], features: Sequence[str]
) -> dict[tuple[int, str], float]:
    """Time the networks alone on ready pixels, in turn, so that a busy moment hits all of them.

    Args:
        networks: by side, px: of `recipe_features.int8_network`; that of REFERENCE is among them.
        features: names of poolings, joined with plus signs, of the blocks whose maps are given.

    Returns:
        By side and features: scans per second over those of REFERENCE, the median of some rounds.
    """
    ready = {
        (side, name): _ready(path, side, {int(part[-1]) for part in name.split("+")})
        for side, path in networks.items()
        for name in features
    }
    ratios: dict[tuple[int, str], list[float]] = {key: [] for key in ready}
    for _ in range(ROUNDS):
        seconds = {key: _seconds(*inference) for key, inference in ready.items()}
        for key, value in seconds.items():
            ratios[key].append(seconds[REFERENCE] / value)
    return {key: statistics.median(values) for key, values in ratios.items()}


def _ready(path: Path, side: int, blocks: set[int]) -> Inference:
    """Compile a network without the maps that are not wanted, and warm it."""
    core = openvino.Core()
    network = core.read_model(path)
    for result in network.get_results():
        width = result.get_output_partial_shape(0)[1].get_length()
        if not any(side >> block == width for block in blocks):
            network.remove_result(result)
    compiled = core.compile_model(network, "CPU", SETTINGS)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    compiled(pixels)
    return compiled, pixels


def _seconds(compiled: openvino.CompiledModel, pixels: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    compiled(pixels)
    return time.perf_counter() - start
