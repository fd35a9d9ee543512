{{/* What the pods of workers and gateways have in common. Each is called with
     (dict "root" $ "component" "worker" "of" $.Values.worker). */}}

{{- define "trainmaster.podMetadata" -}}
labels:
  {{- include "trainmaster.labels" . | nindent 2 }}
  {{- with .of.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .of.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "trainmaster.podSpec" -}}
serviceAccountName: {{ include "trainmaster.serviceAccountName" .root }}
automountServiceAccountToken: false
# Else Kubernetes would set TRAINMASTER_GATEWAY_PORT for the Service, which is a setting.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ .of.terminationGracePeriodSeconds }}
{{- with .of.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- toYaml . | nindent 4 }}
    labelSelector:
      matchLabels:
        {{- include "trainmaster.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "trainmaster.container" -}}
image: {{ include "trainmaster.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
# What ends a start with exit code 2 stands in one line, which `kubectl describe pod` shows then.
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{- define "trainmaster.env" -}}
- name: HOME
  value: /tmp
- name: TRAINMASTER_REDIS_URL_FILE
  value: /run/trainmaster/secrets/redis-url
# Workers write to it, and a gateway shows what it can read there.
- name: TRAINMASTER_RESULT_STORE
  value: {{ default "/var/lib/trainmaster/results" .root.Values.worker.resultStore.url | quote }}
{{- include "trainmaster.settings" .root.Values.settings }}
{{- include "trainmaster.settings" .of.settings }}
{{- with .of.dataRoots }}
{{- $paths := list }}
{{- range . }}{{ $paths = append $paths .mountPath }}{{ end }}
- name: {{ ternary "TRAINMASTER_DATA_ROOTS" "TRAINMASTER_GATEWAY_DATA_ROOTS" (eq $.component "worker") }}
  value: {{ join ":" $paths | quote }}
{{- end }}
{{- end }}

{{- define "trainmaster.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: /run/trainmaster/secrets, readOnly: true}
{{- range .of.dataRoots }}
- name: {{ .name }}
  mountPath: {{ .mountPath }}
  readOnly: {{ default false .readOnly }}
{{- end }}
{{- with .of.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "trainmaster.volumes" -}}
{{- $named := concat (default list .of.dataRoots) (default list .of.extraVolumes) }}
{{- $own := list "tmp" "secrets" "results" }}
{{- if eq .component "gateway" }}{{ $own = concat $own (list "state" "tokens" "integrations" "integrations-secrets" "tls") }}{{ end }}
{{- include "trainmaster.distinct" (dict "list" $named "field" "name" "of" (printf "%s.dataRoots and extraVolumes" .component)) }}
{{- range $named }}
{{- if has .name $own }}
{{- fail (printf "%s: the chart has a volume %q of its own: choose another name" $.component .name) }}
{{- end }}
{{- end }}
{{- range .of.dataRoots }}
- name: {{ .name }}
  persistentVolumeClaim:
    claimName: {{ .claimName }}
    readOnly: {{ default false .readOnly }}
{{- end }}
{{- with .of.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Redis' secrets, as sources of a projected volume. */}}
{{- define "trainmaster.redisSecrets" -}}
{{- $redis := .root.Values.redis -}}
- secret:
    name: {{ $redis.secretName }}
    items:
      {{- if and (eq .component "gateway") $redis.gatewayUrlKey }}
      - {key: {{ $redis.gatewayUrlKey | quote }}, path: redis-url}
      {{- else }}
      - {key: {{ $redis.urlKey | quote }}, path: redis-url}
      {{- end }}
      {{- with $redis.caKey }}
      - {key: {{ . | quote }}, path: redis-ca.pem}
      {{- end }}
{{- end }}
