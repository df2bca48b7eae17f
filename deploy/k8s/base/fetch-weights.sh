#!/bin/sh
# Puts a checkpoint into the folder CHROMA_MODEL of the shared volume. The first pod does it; the others wait or find it.
# WEIGHTS_SOURCE is a hub id, or random:PRESET for seeded random weights; WEIGHTS_REVISION is a commit, tag or branch.
set -eu
wanted="$WEIGHTS_SOURCE@$WEIGHTS_REVISION"
marker="$CHROMA_MODEL/.complete"
mkdir -p "$(dirname "$CHROMA_MODEL")/compile-cache"
exec 9>"$CHROMA_MODEL.lock"
flock 9
if [ -e "$marker" ]; then
  if [ "$(cat "$marker")" = "$wanted" ]; then exit 0; fi
  echo "$CHROMA_MODEL holds $(cat "$marker"), expected $wanted: give the new weights a folder of their own" >&2
  exit 1
fi
case "$WEIGHTS_SOURCE" in
  random:*)
    rm -rf "$CHROMA_MODEL"
    python -m checkpoints new "${WEIGHTS_SOURCE#random:}" "$CHROMA_MODEL"
    ;;
  *)
    hf download "$WEIGHTS_SOURCE" --revision "$WEIGHTS_REVISION" --local-dir "$CHROMA_MODEL" \
      --include '*.json' --include '*.safetensors' --include '*.txt' --include '*.jinja'
    ;;
esac
printf '%s' "$wanted" >"$marker"
