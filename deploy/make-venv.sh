#!/usr/bin/env bash
# make-venv.sh PYTHON FOLDER: a virtual environment, also where Debian split `venv` off Python.
set -euo pipefail
python=$1 folder=$2
rm -rf "$folder"
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$(dirname "$0")/system-packages.sh" "-:python$version-venv"
fi
"$python" -m venv "$folder"
