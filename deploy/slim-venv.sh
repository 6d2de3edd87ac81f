#!/bin/bash
# Remove from a virtual environment what scoring on a CPU never loads.
# usage: slim-venv.sh VENV
set -euo pipefail

packages=$(echo "${1:?usage: slim-venv.sh VENV}"/lib/python3.*/site-packages)

# OpenVINO reads one format here (IR) on one device (CPU).
if [ -d "$packages/openvino" ]; then
    rm -rf "$packages"/openvino/{include,cmake}
    find "$packages/openvino/libs" -type f \( \
        -name '*_gpu_plugin.so' -o -name '*_npu_*' -o -name cache.json -o \
        -name 'libopenvino_*_frontend.so*' ! -name 'libopenvino_ir_frontend.so*' \) -delete
fi
# Arrow reads Parquet here; Flight is its network protocol.
if [ -d "$packages/pyarrow" ]; then
    rm -rf "$packages"/pyarrow/{include,src,tests}
    find "$packages/pyarrow" -type f \( -name 'libarrow_flight*' -o -name '_flight*' \
        -o -name '*.pxi' -o -name '*.pyx' \) -delete
    # The wheel holds one library under three names; the linker asks for the middle one.
    rm -f "$packages"/pyarrow/libarrow_python.so "$packages"/pyarrow/libarrow_python.so.*.*
fi
rm -rf "$packages"/pandas/tests "$packages"/numpy/{distutils,f2py} "$packages"/pydicom/data/test_files
find "$packages" -type f \( -name '*.pyi' -o -name '*.a' \) -delete
# botocore describes every AWS service; signing in and reading S3 needs these.
if [ -d "$packages/botocore/data" ]; then
    find "$packages/botocore/data" -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +
fi
