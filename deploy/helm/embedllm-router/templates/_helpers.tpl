{{- define "embedllm-router.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimAll "-._" }}
{{- end }}

{{- define "embedllm-router.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimAll "-." }}
{{- else if contains (include "embedllm-router.name" .) .Release.Name }}
{{- .Release.Name | trunc 54 | trimAll "-." }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "embedllm-router.name" .) | trunc 54 | trimAll "-." }}
{{- end }}
{{- end }}

{{- define "embedllm-router.selectorLabels" -}}
app.kubernetes.io/name: {{ include "embedllm-router.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "embedllm-router.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimAll "-._" }}
{{ include "embedllm-router.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-._" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "embedllm-router.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "embedllm-router.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "embedllm-router.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- with .Values.image.digest }}
{{- $image = printf "%s@%s" $image . }}
{{- end }}
{{- $image }}
{{- end }}

{{/* The ConfigMap with config.yaml; empty for the configuration in the image. */}}
{{- define "embedllm-router.configMap" -}}
{{- if .Values.config.existingConfigMap }}
{{- .Values.config.existingConfigMap }}
{{- else if .Values.config.content }}
{{- printf "%s-config" (include "embedllm-router.fullname" .) }}
{{- end }}
{{- end }}

{{/* How many proxies there are at least. */}}
{{- define "embedllm-router.replicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}{{ else }}{{ .Values.replicaCount }}{{ end }}
{{- end }}

{{/* An HTTP probe. Takes one of .Values.probes. */}}
{{- define "embedllm-router.probe" -}}
httpGet:
  path: {{ .path | quote }}
  port: http
periodSeconds: {{ .periodSeconds }}
timeoutSeconds: {{ .timeoutSeconds }}
failureThreshold: {{ .failureThreshold }}
{{- end }}
