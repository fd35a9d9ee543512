{{- define "trainmaster.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* 50 characters at most: `-gateway` and the suffixes of pods come behind it. */}}
{{- define "trainmaster.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "trainmaster.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "trainmaster.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "trainmaster.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "trainmaster.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "trainmaster.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Labels of everything. Call with (dict "root" $ "component" "worker"); a component may be left out. */}}
{{- define "trainmaster.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: trainmaster
{{ include "trainmaster.selectorLabels" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What never changes in an object's life. */}}
{{- define "trainmaster.selectorLabels" -}}
app.kubernetes.io/name: {{ include "trainmaster.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Settings as variables. Numbers of values are floats: 33554432 would be written as 3.3554432e+07. */}}
{{- define "trainmaster.settings" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ printf "%.0f" $value | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A token of the gateway that may read everything. Call with (dict "root" $ "name" … "of" "autoscaling.token"). */}}
{{- define "trainmaster.readToken" -}}
{{- $found := dict }}
{{- range .root.Values.gateway.tokens }}
{{- if eq .name $.name }}{{ $found = . }}{{ end }}
{{- end }}
{{- if not $found }}
{{- fail (printf "%s: gateway.tokens has no token %q" .of .name) }}
{{- end }}
{{- if or (not (has "read" $found.scopes)) $found.types $found.projects }}
{{- fail (printf "%s: the token %q must have the scope read, and no types or projects" .of .name) }}
{{- end }}
{{- toYaml $found }}
{{- end }}

{{- define "trainmaster.gatewayUrl" -}}
{{- $tls := .Values.gateway.tls.secretName -}}
{{- printf "%s://%s-gateway.%s.svc:%v" (ternary "https" "http" (not (empty $tls))) (include "trainmaster.fullname" .) .Release.Namespace .Values.gateway.service.port }}
{{- end }}
