{{- /* Labels of every object. They are not those of pods, which a new version of the chart would otherwise replace. */}}
{{- define "chroma-voice.labels" -}}
app.kubernetes.io/part-of: chroma-voice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The name of an image. Arguments: its values, the registry, and the tag for an image that names none. */}}
{{- define "chroma-voice.image" -}}
{{- $image := index . 0 }}
{{- with index . 1 }}{{ . }}/{{ end }}{{ $image.repository }}
{{- $tag := $image.tag | default (ternary "" (index . 2) (ne $image.digest "")) }}
{{- with $tag }}:{{ . }}{{ end }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* Settings as the texts that a ConfigMap holds. Helm reads whole numbers as floats. */}}
{{- define "chroma-voice.settings" -}}
{{- range $name, $value := . }}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
{{- $value = int64 $value }}
{{- end }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}
