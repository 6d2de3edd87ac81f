"""MLflow's runs: where they lie, what they are called, and the models and data sets in them."""

from steps.tracking.datasets import log_scans, source_of
from steps.tracking.models import link_model, logged_model
from steps.tracking.names import run_name
from steps.tracking.progress import print_progress
from steps.tracking.runs import (
    PARENT_RUN_VARIABLE,
    git_commit,
    log_params,
    stage_run,
    started_by_main,
)
from steps.tracking.scores import log_headline
from steps.tracking.server import check_tracking_server

__all__ = [
    "PARENT_RUN_VARIABLE",
    "check_tracking_server",
    "git_commit",
    "link_model",
    "log_headline",
    "log_params",
    "log_scans",
    "logged_model",
    "print_progress",
    "run_name",
    "source_of",
    "stage_run",
    "started_by_main",
]
