"""`python -m steps.promote`, its clean processes forked from one that has MLflow loaded.

The first argument is the fork server's address.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from steps.gates import clean_process
from steps.promote import main
from tests.fork_server import ForkServer

if __name__ == "__main__":
    forks = ForkServer(Path(sys.argv.pop(1)))
    clean_process.subprocess = SimpleNamespace(  # type: ignore[assignment]
        run=forks.run_clean, TimeoutExpired=subprocess.TimeoutExpired
    )
    main()
