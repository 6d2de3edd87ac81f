"""The prepared base on OpenVINO's CPU plugin: pixels to feature maps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from .forks import Inferences

# What OpenVINO computes in. An int8 network keeps float32 where it is not quantised: left to
# itself, the plugin would choose bf16 on some machines and give other answers there.
INFERENCE_PRECISION = {"int8": "f32", "f32": "f32", "bf16": "bf16"}

# Where the process that first compiled a network notes its number: on OpenVINO's module, which
# every version of this code in the process shares.
COMPILED_IN = "_chest_ct_compiled_in_process"


class Runtime:
    """A compiled network. May be called from several threads; inferences take turns.

    One inference already uses every core, so running two at once gains nothing. They wait in
    OpenVINO's own queue, where the next one starts without waiting for Python.

    OpenVINO's threads do not survive a fork. In a child process the calling thread computes alone:
    the same maps, on one core.
    """

    def __init__(self, path: Path, precision: str) -> None:
        """Load and compile the network.

        Args:
            path: the `.xml` of the IR, with its `.bin` beside it.
            precision: `int8`, `bf16` or `f32`, as it was exported.

        Raises:
            RuntimeError: this process was forked from one that had already loaded a network.
        """
        _check_not_forked_after_compiling()
        core = openvino.Core()
        self._compiled = core.compile_model(
            core.read_model(path),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "TBB_PARTITIONER": "AUTO",  # a thread that other work holds up is helped out
                "INFERENCE_PRECISION_HINT": INFERENCE_PRECISION[precision],
            },
        )
        self._process = os.getpid()
        self._idle: list[openvino.InferRequest] = []  # append and pop are atomic

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute feature maps.

        Args:
            pixels: RGB (n, side, side, 3), 0-255.

        Returns:
            Maps (n, height, width, channels), never negative.
        """
        return self.start(pixels)()

    def start(self, pixels: NDArray[np.uint8]) -> Callable[[], NDArray[np.float32]]:
        """Queue an inference.

        Args:
            pixels: as for a call.

        Returns:
            A function that waits and returns the maps. Call it once.
        """
        if os.getpid() != self._process:
            return lambda: self._alone(pixels)
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        INFERENCES.start(request, pixels)

        def maps() -> NDArray[np.float32]:
            INFERENCES.wait(request)
            result: NDArray[np.float32] = request.get_output_tensor(0).data.copy()
            self._idle.append(request)
            return result

        return maps

    def _alone(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute in this thread: `infer`, unlike `start_async`, hands nothing to another one."""
        request = self._compiled.create_infer_request()
        request.infer({0: pixels})
        result: NDArray[np.float32] = request.get_output_tensor(0).data.copy()
        return result


INFERENCES = Inferences()


def _check_not_forked_after_compiling() -> None:
    """Refuse what would end the process: OpenVINO cannot compile after such a fork."""
    if vars(openvino).setdefault(COMPILED_IN, os.getpid()) != os.getpid():
        raise RuntimeError(
            "Expected a process that loads its model itself, or uses the one loaded before the "
            "fork; this one was forked from a process that had loaded a model, and loads another. "
            "Load the model before forking only, or start workers with 'spawn' or 'forkserver'."
        )
