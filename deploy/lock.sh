#!/usr/bin/env bash
# lock.sh PIP_COMPILE KIND…: renew deploy/requirements-KIND.lock (exact versions, every hash) from
# pyproject.toml, constraints.txt and deploy/requirements-KIND.in. Names no package index.
set -euo pipefail
cd "$(dirname "$0")/.."
compile=$1
shift
for kind in "$@"; do
  CUSTOM_COMPILE_COMMAND="make lock" "$compile" --quiet --generate-hashes --strip-extras --allow-unsafe \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
    --extra "$kind" --extra s3 --extra tracing --constraint constraints.txt \
    --output-file "deploy/requirements-$kind.lock" pyproject.toml "deploy/requirements-$kind.in"
done
