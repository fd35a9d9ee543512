{{/* What a cluster would refuse, and no schema can see: each ends `helm` with the value's name. */}}

{{/* Ends where two of a list have the same of a field: Kubernetes would say so only once it is applied.
     Call with (dict "list" $list "field" "name" "of" "gateway.tokens"). */}}
{{- define "trainmaster.distinct" -}}
{{- $seen := dict }}
{{- range .list }}
{{- $value := index . $.field }}
{{- if hasKey $seen $value }}
{{- fail (printf "%s: two have the %s %q: remove one" $.of $.field $value) }}
{{- end }}
{{- $_ := set $seen $value true }}
{{- end }}
{{- end }}

{{/* A quantity as a number, for comparing: 250m is 0.25, 1Ki is 1024. */}}
{{- define "trainmaster.quantity" -}}
{{- $text := toString . }}
{{- $unit := regexFind "([numkMGTPE]|[KMGTPE]i)$" $text }}
{{- $factors := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 }}
{{- printf "%.9f" (mulf (float64 (trimSuffix $unit $text)) (index $factors $unit)) }}
{{- end }}

{{/* Ends where Kubernetes would refuse a Deployment, or do other than its values say. Call with
     (dict "root" $ "component" "worker" "of" .Values.worker "manifest" $text). */}}
{{- define "trainmaster.checkDeployment" -}}
{{- $component := .component }}
{{- if not (has "ALL" .root.Values.containerSecurityContext.capabilities.drop) }}
{{- fail "containerSecurityContext.capabilities.drop: add ALL, which Kubernetes' restricted level asks for" }}
{{- end }}
{{- $extra := printf "%s.extraEnv" $component }}
{{- include "trainmaster.distinct" (dict "list" .of.extraEnv "field" "name" "of" $extra) }}
{{- range .of.extraEnv }}
{{- if has .name (list "TRAINMASTER_REDIS_URL" "TRAINMASTER_BEARER_TOKEN" "ENCORD_SSH_KEY" "ENCORD_SSH_KEY_PASSPHRASE" "ENCORD_SSH_KEY_FILE_PASSPHRASE") }}
{{- fail (printf "%s: %s is a secret, and secrets are mounted as files: name its Secret in redis or encord" $extra .name) }}
{{- end }}
{{- end }}
{{- include "trainmaster.checkResources" (dict "resources" .of.resources "of" (printf "%s.resources" $component)) }}
{{- $pod := (fromYaml .manifest).spec.template.spec }}
{{- $volumes := dict }}
{{- range $pod.volumes }}{{ $_ := set $volumes .name true }}{{ end }}
{{- range $pod.containers }}
{{- $variables := dict }}
{{- range .env }}
{{- if hasKey $variables .name }}
{{- fail (printf "%s: the chart sets %s by another value: change that one, and remove this" $extra .name) }}
{{- end }}
{{- $_ := set $variables .name true }}
{{- end }}
{{- include "trainmaster.distinct" (dict "list" .volumeMounts "field" "mountPath" "of" (printf "%s.dataRoots, extraVolumeMounts and the chart's own" $component)) }}
{{- range .volumeMounts }}
{{- if not (hasKey $volumes .name) }}
{{- fail (printf "%s.extraVolumeMounts: there is no volume %q: add it to %s.extraVolumes" $component .name $component) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Ends where resources are none, or a request is over its limit. Call with
     (dict "resources" … "of" "worker.resources"). */}}
{{- define "trainmaster.checkResources" -}}
{{- range $kind := tuple "requests" "limits" }}
{{- range $name, $amount := index $.resources $kind }}
{{- $of := printf "%s.%s.%s" $.of $kind $name }}
{{- if not (regexMatch "^(cpu|memory|ephemeral-storage|hugepages-[0-9]+[KMG]i|[a-z0-9.-]+/[A-Za-z0-9._-]+)$" $name) }}
{{- fail (printf "%s: Kubernetes has no such resource: use cpu, memory, ephemeral-storage, or a name with a domain" $of) }}
{{- end }}
{{- if not (regexMatch "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$" (toString $amount)) }}
{{- fail (printf "%s: %q is no quantity: write one like 250m, 1.5 or 512Mi" $of (toString $amount)) }}
{{- end }}
{{- if and (ne $name "cpu") (regexMatch "[num]$" (toString $amount)) }}
{{- fail (printf "%s: %v is a part of a byte: write one like 512Mi" $of $amount) }}
{{- end }}
{{- end }}
{{- end }}
{{- $limits := default dict .resources.limits }}
{{- range $name, $requested := .resources.requests }}
{{- if hasKey $limits $name }}
{{- $limit := index $limits $name }}
{{- if gt (include "trainmaster.quantity" $requested | float64) (include "trainmaster.quantity" $limit | float64) }}
{{- fail (printf "%s.requests.%s: %v is over the limit, %v: lower it, or raise limits.%s" $.of $name $requested $limit $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* How pods are replaced. Recreate has no rollingUpdate, though the defaults bring one. */}}
{{- define "trainmaster.strategy" -}}
{{- $strategy := .of.strategy }}
{{- $rolling := default dict $strategy.rollingUpdate }}
{{- if eq $strategy.type "Recreate" -}}
type: Recreate
{{- else }}
{{- if and (has (toString $rolling.maxUnavailable) (list "0" "0%")) (has (toString $rolling.maxSurge) (list "0" "0%")) }}
{{- fail (printf "%s.strategy.rollingUpdate: maxUnavailable and maxSurge are both 0, so no pod could be replaced: raise one" .component) }}
{{- end }}
{{- toYaml $strategy }}
{{- end }}
{{- end }}
