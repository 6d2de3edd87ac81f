"""Whether the tracking server is there, asked before any work."""

from __future__ import annotations

import os

import mlflow
import requests
from mlflow.utils.credentials import read_mlflow_creds

from steps.errors import StageError

PROBE_TIMEOUT_S = 15


def check_tracking_server() -> None:
    """Ask a remote tracking server one quick question, so that faults show before any work.

    Without this, MLflow retries a dead server for minutes and ends in a traceback.

    Raises:
        StageError: no answer, or the credentials are refused.
    """
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return
    credentials = read_mlflow_creds()  # the variables, or ~/.mlflow/credentials
    auth = (credentials.username, credentials.password or "") if credentials.username else None
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token and not auth else {}
    try:
        answer = requests.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
            params={"max_results": "1"},
            auth=auth,
            headers=headers,
            timeout=PROBE_TIMEOUT_S,
            verify=os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "false").lower() != "true",
        )
    except requests.RequestException as error:
        raise StageError(
            f"The tracking server {uri} does not answer ({type(error).__name__}). Check "
            "MLFLOW_TRACKING_URI and the network, or unset it to track in a local file."
        ) from error
    if answer.status_code in (401, 403):
        raise StageError(
            f"The tracking server {uri} refused the credentials (HTTP {answer.status_code}). "
            "Check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    if answer.status_code >= 400:
        raise StageError(
            f"{uri} answered HTTP {answer.status_code} instead of an MLflow tracking API. "
            "Check MLFLOW_TRACKING_URI (on DagsHub it ends in .mlflow)."
        )
