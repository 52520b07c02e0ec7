{{- define "weft.labels" -}}
app.kubernetes.io/name: weft
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "weft.selector" -}}
app.kubernetes.io/name: weft
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weft.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "weft.pool" -}}
{{ .Values.inferencePool.name | default .Release.Name }}
{{- end }}

{{- define "weft.isPicker" -}}
{{ if eq .Values.mode "endpoint-picker" }}yes{{ end }}
{{- end }}

{{/* weft.yaml: what the chart knows, with .Values.config over it. */}}
{{- define "weft.config" -}}
{{- $config := dict "listen" "0.0.0.0:8080" "limits" (dict "drain_s" .Values.drainSeconds) }}
{{- if include "weft.isPicker" . }}
{{- $extproc := dict "listen" "0.0.0.0:9002" }}
{{- if .Values.extprocTlsSecret }}
{{- $_ := set $extproc "tls" (dict "certificate" "/etc/weft-tls/tls.crt" "key" "/etc/weft-tls/tls.key") }}
{{- end }}
{{- $_ := set $config "extproc" $extproc }}
{{- $_ := set $config "kubernetes" (list (dict "inference_pool" (include "weft.pool" .))) }}
{{- else }}
{{- $labels := list }}
{{- range $key, $value := .Values.replicas.matchLabels }}
{{- $labels = append $labels (printf "%s=%s" $key $value) }}
{{- end }}
{{- $_ := set $config "kubernetes" (list (dict "selector" (join "," $labels) "ports" .Values.replicas.ports)) }}
{{- end }}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml }}
{{- end }}

{{- define "weft.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
