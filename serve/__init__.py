"""The scoring API and the page, around any pyfunc that takes an `image` column."""

import os

# A machine with patients' scans reports nothing; MLflow would send its maker what it was used for.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
