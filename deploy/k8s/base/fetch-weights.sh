#!/bin/sh
# Puts a checkpoint into the folder CHROMA_MODEL of the shared volume. The first pod does it; the others wait or find it.
# WEIGHTS_SOURCE is a hub id, or random:PRESET for seeded random weights. The WEIGHTS_REVISION of a hub id is a commit: a
# branch or a tag may move, and then two pods would serve different weights. WEIGHTS_SHA256, when set, is the digest that
# the folder must have; it is printed after each download (docs/operations.md, "Weights").
set -eu
wanted="$WEIGHTS_SOURCE@$WEIGHTS_REVISION"
marker="$CHROMA_MODEL/.complete"
case "$WEIGHTS_SOURCE" in
  random:*) ;;
  *)
    if ! printf '%s' "$WEIGHTS_REVISION" | grep -Eqx '[0-9a-f]{40}' || [ -z "${WEIGHTS_REVISION##0000000000*}" ]; then
      echo "WEIGHTS_REVISION is '$WEIGHTS_REVISION': expected the 40 hex digits of a commit of $WEIGHTS_SOURCE" >&2
      exit 1
    fi
    ;;
esac
# A folder a service, of which its containers see no other: compiled code of one is not run by another.
for service in reasoner speech-gen codec; do mkdir -p "$(dirname "$CHROMA_MODEL")/compile-cache/$service"; done
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
digest=$(cd "$CHROMA_MODEL" && find . -type f ! -path './.*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
echo "$wanted has the digest $digest"
if [ -n "${WEIGHTS_SHA256:-}" ] && [ "$digest" != "$WEIGHTS_SHA256" ]; then
  echo "$CHROMA_MODEL has the digest $digest, expected $WEIGHTS_SHA256: these are not the weights that were reviewed" >&2
  exit 1
fi
printf '%s' "$wanted" >"$marker"
