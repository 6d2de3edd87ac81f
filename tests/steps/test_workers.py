"""Work in processes gives what it gives in place."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from steps.evaluation.workers import WORTH_A_PROCESS, workers


def test_little_work_stays_in_this_process() -> None:
    with workers(WORTH_A_PROCESS - 1) as executor:
        assert executor.submit(os.getpid).result() == os.getpid()


def test_much_work_goes_to_others_with_the_same_result_and_the_same_error() -> None:
    numbers = np.arange(10.0)
    with workers(WORTH_A_PROCESS) as executor:
        assert isinstance(executor, ProcessPoolExecutor)
        assert executor.submit(os.getpid).result() != os.getpid()
        assert executor.submit(np.std, numbers).result() == numbers.std()
        failing = executor.submit(int, "many")
        with pytest.raises(ValueError, match="many"):
            failing.result()
