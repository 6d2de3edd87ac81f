"""These tests, and what they test, load neither the pipeline nor what it trains with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"steps", "keras", "tensorflow", "mlflow", "openvino", "torch"}


def test_no_test_of_scans_loads_the_pipeline() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in ("scans", "tests/scans")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    loaded = "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    script = f"import sys, {', '.join(modules)}; {loaded}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "scans" in done.stdout.split()
    assert set(done.stdout.split()) & HEAVY == set()
