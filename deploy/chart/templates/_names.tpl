{{/* Names, labels and values that several templates share. */}}

{{/* The prefix of every name, made from the name of the release. At most 36 characters: the longest name of a Service is
"-host-" and the name of a group longer, which has at most 20, and the limit is 63. A longer name is shortened with a
hash, so that releases do not collide. */}}
{{- define "berth.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "berth" $name) -}}
{{- $name = printf "%s-berth" $name -}}
{{- end -}}
{{- if gt (len $name) 36 -}}
{{- $name = printf "%s-%s" ($name | trunc 27 | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Selector labels, which never change. Takes root and component. */}}
{{- define "berth.selector" -}}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels. Takes root and component. */}}
{{- define "berth.labels" -}}
{{ include "berth.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* An image reference. Takes root and image. */}}
{{- define "berth.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* The host groups with all defaults applied, sorted by name, as JSON: {groups: [{name, ...}]}. */}}
{{- define "berth.groups" -}}
{{- $groups := list -}}
{{- range $name, $group := .Values.hosts.groups -}}
{{- if $group -}}
{{- $merged := mergeOverwrite (deepCopy $.Values.hosts.groupDefaults) (deepCopy $group) -}}
{{- $groups = append $groups (set $merged "name" $name) -}}
{{- end -}}
{{- end -}}
{{- dict "groups" $groups | toJson -}}
{{- end -}}

{{/* The URL of the NATS server. */}}
{{- define "berth.natsUrl" -}}
{{- if .Values.nats.enabled -}}
tls://{{ include "berth.name" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{- required "nats.external.url must be set when nats.enabled is false" .Values.nats.external.url -}}
{{- end -}}
{{- end -}}

{{/* The security contexts of Pods and containers under the restricted Pod Security Standard. */}}
{{- define "berth.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "berth.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
