"""Batch scoring: every object under a prefix gets one row."""

import os

# A machine with patients' scans reports nothing; MLflow would send its maker what it was used for.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
