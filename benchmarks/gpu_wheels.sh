#!/usr/bin/env bash
# Fetch the packages that a machine with torch, Lightning and Triton lacks, for Python 3.12 on Linux,
# so that `python -m benchmarks.gpu` runs where there is no index:
#     benchmarks/gpu_wheels.sh wheels
#     python3 -m pip install --no-index --no-deps --target /tmp/site wheels/*.whl    # over there
set -euo pipefail
folder=${1:-wheels}
platforms=(--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64)
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" --dest "$folder" \
    "jsonargparse>=4.40" docstring-parser typeshed-client importlib-resources \
    "vector-quantize-pytorch>=1.32" einx torch-einops-utils loguru frozendict x-transformers
du -sh "$folder"
