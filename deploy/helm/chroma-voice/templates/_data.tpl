{{- /* The data of ConfigMaps. Made by `make generated`. Do not edit. */}}

{{- define "chroma-voice.data.codec-defaults" -}}
CHROMA_DRAIN_S: "480"
CHROMA_LISTEN: 0.0.0.0:50051
CHROMA_LOG_FORMAT: json
CHROMA_MAX_CONNECTION_AGE_S: "3600"
CHROMA_METRICS_LISTEN: 0.0.0.0:9090
CHROMA_SLOTS: "16"
{{- if or (eq .Values.gpu.mode "dedicated") (eq .Values.gpu.mode "mps") (eq .Values.gpu.mode "time-slicing") }}
CHROMA_DEVICE: cuda
CHROMA_ENGINE_STALL_S: "20"
{{- end }}
{{- if .Values.tracing.enabled }}
CHROMA_OTLP_ENDPOINT: "{{ .Values.tracing.endpoint }}"
{{- end }}
{{- if .Values.tls.enabled }}
CHROMA_HEALTH_LISTEN: 0.0.0.0:50052
CHROMA_TLS_CA: /tls/ca.crt
CHROMA_TLS_CALLERS: gateway
CHROMA_TLS_CERT: /tls/tls.crt
CHROMA_TLS_KEY: /tls/tls.key
{{- end }}
{{- end }}

{{- define "chroma-voice.data.codec-settings" -}}
{{- with include "chroma-voice.settings" .Values.codec.settings }}
data:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "chroma-voice.data.gateway-defaults" -}}
CHROMA_API_KEYS_FILE: /etc/chroma-voice/keys/keys.json
CHROMA_CODEC: dns:///codec:50051
CHROMA_DRAIN_S: "480"
{{- if .Values.gatewayApi.enabled }}
CHROMA_HTTP_HOSTS: "{{ .Values.gatewayApi.httpHost }},gateway,gateway.{{ .Release.Namespace }},*.svc,*.svc.cluster.local"
{{- else }}
CHROMA_HTTP_HOSTS: "gateway,gateway.{{ .Release.Namespace }},*.svc,*.svc.cluster.local"
{{- end }}
CHROMA_HTTP_LISTEN: 0.0.0.0:8080
CHROMA_LISTEN: 0.0.0.0:50051
CHROMA_LOG_FORMAT: json
CHROMA_MAX_CONNECTION_AGE_S: "3600"
CHROMA_METRICS_LISTEN: 0.0.0.0:9090
CHROMA_REASONER: dns:///reasoner:50051
CHROMA_SPEECH_GEN: dns:///speech-gen:50051
CHROMA_TURN_LIMIT_S: "450"
{{- if .Values.tracing.enabled }}
CHROMA_OTLP_ENDPOINT: "{{ .Values.tracing.endpoint }}"
{{- end }}
{{- if not .Values.valkey.enabled }}
CHROMA_REDIS_TLS_CA: ""
{{- else if .Values.tls.enabled }}
CHROMA_REDIS_TLS_CA: /tls/ca.crt
{{- end }}
{{- if not .Values.valkey.enabled }}
CHROMA_REDIS_TLS_CERT: ""
{{- else if .Values.tls.enabled }}
CHROMA_REDIS_TLS_CERT: /tls/tls.crt
{{- end }}
{{- if not .Values.valkey.enabled }}
CHROMA_REDIS_TLS_KEY: ""
{{- else if .Values.tls.enabled }}
CHROMA_REDIS_TLS_KEY: /tls/tls.key
{{- end }}
{{- if .Values.tls.enabled }}
CHROMA_SERVICES_TLS_CA: /tls/ca.crt
CHROMA_SERVICES_TLS_CERT: /tls/tls.crt
CHROMA_SERVICES_TLS_KEY: /tls/tls.key
{{- end }}
{{- if .Values.gatewayApi.enabled }}
CHROMA_HTTP_BEHIND_TLS: "true"
{{- end }}
{{- if .Values.oidc.enabled }}
CHROMA_OIDC_AUDIENCE: {{ .Values.oidc.audience | quote }}
CHROMA_OIDC_ISSUER: "{{ .Values.oidc.issuer }}"
{{- end }}
{{- end }}

{{- define "chroma-voice.data.gateway-settings" -}}
{{- with include "chroma-voice.settings" .Values.gateway.settings }}
data:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "chroma-voice.data.reasoner-defaults" -}}
CHROMA_DRAIN_S: "480"
CHROMA_LISTEN: 0.0.0.0:50051
CHROMA_LOG_FORMAT: json
CHROMA_MAX_CONNECTION_AGE_S: "3600"
CHROMA_METRICS_LISTEN: 0.0.0.0:9090
CHROMA_SLOTS: "16"
{{- if or (eq .Values.gpu.mode "dedicated") (eq .Values.gpu.mode "mps") (eq .Values.gpu.mode "time-slicing") }}
CHROMA_DEVICE: cuda
CHROMA_DTYPE: bfloat16
CHROMA_ENGINE_STALL_S: "20"
{{- end }}
{{- if .Values.tracing.enabled }}
CHROMA_OTLP_ENDPOINT: "{{ .Values.tracing.endpoint }}"
{{- end }}
{{- if .Values.tls.enabled }}
CHROMA_HEALTH_LISTEN: 0.0.0.0:50052
CHROMA_TLS_CA: /tls/ca.crt
CHROMA_TLS_CALLERS: gateway
CHROMA_TLS_CERT: /tls/tls.crt
CHROMA_TLS_KEY: /tls/tls.key
{{- end }}
{{- end }}

{{- define "chroma-voice.data.reasoner-settings" -}}
{{- with include "chroma-voice.settings" .Values.reasoner.settings }}
data:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "chroma-voice.data.scripts" -}}
fetch-weights.sh: |
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
{{- end }}

{{- define "chroma-voice.data.speech-gen-defaults" -}}
CHROMA_DRAIN_S: "480"
CHROMA_LISTEN: 0.0.0.0:50051
CHROMA_LOG_FORMAT: json
CHROMA_MAX_CONNECTION_AGE_S: "3600"
CHROMA_METRICS_LISTEN: 0.0.0.0:9090
CHROMA_SLOTS: "16"
{{- if or (eq .Values.gpu.mode "dedicated") (eq .Values.gpu.mode "mps") (eq .Values.gpu.mode "time-slicing") }}
CHROMA_DEVICE: cuda
CHROMA_DTYPE: bfloat16
CHROMA_ENGINE_STALL_S: "20"
{{- end }}
{{- if .Values.tracing.enabled }}
CHROMA_OTLP_ENDPOINT: "{{ .Values.tracing.endpoint }}"
{{- end }}
{{- if .Values.tls.enabled }}
CHROMA_HEALTH_LISTEN: 0.0.0.0:50052
CHROMA_TLS_CA: /tls/ca.crt
CHROMA_TLS_CALLERS: gateway
CHROMA_TLS_CERT: /tls/tls.crt
CHROMA_TLS_KEY: /tls/tls.key
{{- end }}
{{- end }}

{{- define "chroma-voice.data.speech-gen-settings" -}}
{{- with include "chroma-voice.settings" .Values.speechGen.settings }}
data:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "chroma-voice.data.valkey" -}}
valkey.conf: |
  # Every write is on disk, in the append-only file, before the gateway acknowledges it. The gateway waits with WAITAOF; with
  # `everysec` this would take up to a second for each turn.
  dir /data
  appendonly yes
  appendfsync always
  # Nothing is evicted. A full store refuses writes, and the gateway reports the error.
  maxmemory {{ .Values.valkey.maxmemory }}
  maxmemory-policy noeviction
  # The append-only file is enough: no snapshots.
  save ""
  # What components add, such as TLS.
  include /etc/valkey/*.extra
{{- if .Values.tls.enabled }}
tls.extra: |
  port 0
  tls-port 6379
  tls-cert-file /tls/tls.crt
  tls-key-file /tls/tls.key
  tls-ca-cert-file /tls/ca.crt
  tls-auth-clients yes
  tls-protocols "TLSv1.2 TLSv1.3"
{{- end }}
{{- end }}

{{- define "chroma-voice.data.weights" -}}
CHROMA_MODEL: {{ .Values.weights.folder | quote }}
WEIGHTS_REVISION: {{ .Values.weights.revision | quote }}
WEIGHTS_SHA256: {{ .Values.weights.sha256 | quote }}
WEIGHTS_SOURCE: {{ .Values.weights.source | quote }}
{{- end }}
