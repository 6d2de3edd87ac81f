"""Import what a start of the server imports, so that Python writes the byte code of just that.

In a container neither the user nor the read-only root lets a start keep byte code, and the base
image comes without the standard library's.
"""

import importlib
import sys

MODULES = """
    boto3 fastapi fastapi_offline mlflow.artifacts mlflow.pyfunc mlflow.pyfunc.scoring_server
    mlflow.pyfunc.loaders.code_model mlflow.store.artifact.models_artifact_repo
    mlflow.store.artifact.s3_artifact_repo mlflow.tracking multiprocessing.forkserver numpy
    openvino pandas PIL.Image prometheus_client.multiprocess pyarrow.pandas_compat
    pyarrow.parquet pydicom python_multipart starlette.middleware.cors uvicorn.loops.auto
    uvicorn.main uvicorn.protocols.http.h11_impl uvicorn.supervisors
"""

for name in MODULES.split():
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A model's own requirements decide what is there: another one may do without OpenVINO.
        print(f"not part of this image: {error.name}", file=sys.stderr)
        continue
    if name == "PIL.Image":
        module.init()  # the readers of each format
    if name == "boto3":
        module.client("s3", region_name="us-east-1")
