#!/bin/bash
# The GPU session on a machine that has torch for CUDA and Python 3.12 and no internet:
#   make gpu-wheels         # before, on a machine with internet; then carry the repository and build/gpu-wheels over
#   bench/gpu_session.sh    # results in $OUT (build/bench if unset), within LIMIT_S seconds (535 if unset)
# Packages that the machine has already need no wheel.
# Options go to bench.gpu_session, such as --preset tiny --device cpu --dtype float32 for a rehearsal.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
wheels=${WHEELS:-build/gpu-wheels}
if compgen -G "$wheels/*.whl" >/dev/null; then
  "$python" -m venv --system-site-packages build/gpu-venv
  build/gpu-venv/bin/python -m pip install --quiet --no-index --no-deps --find-links "$wheels" -r bench/gpu_requirements.txt
  python=build/gpu-venv/bin/python
fi
export PYTHONPATH=.:clients/python${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m bench.gpu_session --out "${OUT:-build/bench}" --limit-s $((${LIMIT_S:-535} - SECONDS)) "$@"
