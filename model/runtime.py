"""The prepared base on OpenVINO's CPU plugin: pixels to feature maps."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

# What OpenVINO computes in. An int8 network keeps float32 where it is not quantised: left to
# itself, the plugin would choose bf16 on some machines and give other answers there.
INFERENCE_PRECISION = {"int8": "f32", "f32": "f32", "bf16": "bf16"}


class Runtime:
    """A compiled network. May be called from several threads; calls take turns.

    One inference already uses every core, so running two at once gains nothing.
    """

    def __init__(self, path: Path, precision: str) -> None:
        """Load and compile the network.

        Args:
            path: the `.xml` of the IR, with its `.bin` beside it.
            precision: `int8`, `bf16` or `f32`, as it was exported.
        """
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(path),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": INFERENCE_PRECISION[precision],
            },
        )
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute feature maps.

        Args:
            pixels: RGB (n, side, side, 3), 0-255.

        Returns:
            Maps (n, height, width, channels), never negative.
        """
        with self._lock:
            maps: NDArray[np.float32] = self._request.infer({0: pixels})[0].copy()
        return maps
