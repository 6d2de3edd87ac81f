"""A module or room per pipeline stage, run as `python -m steps.<name>`; the registry; its gates."""

import os

# A machine with patients' scans reports nothing; MLflow would send its maker what it was used for.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
