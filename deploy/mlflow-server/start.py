#!/usr/bin/env python
"""Make the artefact bucket where it is missing, then become MLflow's tracking server.

Addresses and passwords come in MLflow's and boto3's own variables, so none is an argument that
other users of the host could read in the list of processes.
"""

import os
import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

ATTEMPTS = 30
OURS_ALREADY = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def make_bucket(name: str) -> None:
    """Make the bucket `name`; wait for the store, which starts beside this server."""
    s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    for attempt in range(1, ATTEMPTS + 1):
        try:
            s3.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] in OURS_ALREADY:
                return
            problem = error.response["Error"]["Code"]
        except BotoCoreError as error:
            problem = type(error).__name__
        else:
            return
        print(f"waiting for the S3 store ({attempt}/{ATTEMPTS}): {problem}", file=sys.stderr)
        time.sleep(2)
    sys.exit(f"expected an S3 store at {s3.meta.endpoint_url}: {problem}")


bucket = os.environ["ARTIFACT_BUCKET"]
make_bucket(bucket)
arguments = ["server", "--host", "0.0.0.0"]  # noqa: S104 - in a container
arguments += ["--port", "5000", "--workers", "2"]
arguments += ["--serve-artifacts", "--artifacts-destination", f"s3://{bucket}"]
os.execvp("mlflow", ["mlflow", *arguments, *sys.argv[1:]])  # noqa: S606
