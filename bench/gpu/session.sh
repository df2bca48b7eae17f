#!/bin/bash
# The GPU session on a machine that has torch for CUDA and Python 3.12 and no internet:
#   make gpu-wheels         # before, on a machine with internet; then carry the repository and build/gpu-wheels over
#   bench/gpu/session.sh    # results in $OUT (build/bench if unset), within LIMIT_S seconds (535 if unset)
# Packages that the machine has already need no wheel.
# Options go to bench.gpu.session, such as --preset tiny --device cpu --dtype float32 for a rehearsal.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
wheels=${WHEELS:-build/gpu-wheels}
packages=build/gpu-packages
if compgen -G "$wheels/*.whl" >/dev/null && [ ! -d "$packages" ]; then
  "$python" -m pip install --quiet --no-index --no-deps --target "$packages" "$wheels"/*.whl
fi
export PYTHONPATH=.:clients/python:$packages${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m bench.gpu.session --out "${OUT:-build/bench}" --limit-s $((${LIMIT_S:-535} - SECONDS)) "$@"
