"""The model's network alone, on pixels that are in memory: what every way of scoring adds to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino


class BareNetwork:
    """The network of a model folder, compiled for one size of batch and warm."""

    def __init__(self, model: Path, batch_size: int) -> None:
        """Compile the network in the model's own precision.

        Raises:
            FileNotFoundError: the folder holds no OpenVINO network.
        """
        file = next(model.rglob("network.xml"), None)
        if file is None:
            raise FileNotFoundError(f"no network.xml in {model}")
        precision = "bf16" if "precision: bf16" in (model / "MLmodel").read_text() else "f32"
        core = openvino.Core()
        network = core.compile_model(
            core.read_model(file),
            "CPU",
            {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision},
        )
        shape = [batch_size, *(network.input(0).partial_shape[i].get_length() for i in (1, 2, 3))]
        self._pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self._request = network.create_infer_request()
        self.infer()

    def infer(self) -> int:
        """Run one inference and return how many scans that were."""
        self._request.infer({0: self._pixels})
        return len(self._pixels)
