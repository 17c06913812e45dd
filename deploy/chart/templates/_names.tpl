{{/* Names, labels and values that several templates share. */}}

{{/* The prefix of every name, made from the name of the release. */}}
{{- define "berth.name" -}}
{{- if contains "berth" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-berth" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
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
