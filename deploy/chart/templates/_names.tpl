{{/* What things are called, and the labels that find them. */}}

{{/* The release, as the beginning of every name. */}}
{{- define "berth.name" -}}
{{- if contains "berth" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-berth" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Labels that select; they never change. Takes root and component. */}}
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

{{/* Takes root and image. */}}
{{- define "berth.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* The groups with what they leave out filled in, as JSON: {groups: [{name, ...}]}, sorted by name. */}}
{{- define "berth.groups" -}}
{{- $groups := list -}}
{{- range $name, $group := .Values.hosts.groups -}}
{{- if $group -}}
{{- $whole := mergeOverwrite (deepCopy $.Values.hosts.groupDefaults) (deepCopy $group) -}}
{{- $groups = append $groups (set $whole "name" $name) -}}
{{- end -}}
{{- end -}}
{{- dict "groups" $groups | toJson -}}
{{- end -}}

{{/* Where the server is. */}}
{{- define "berth.natsUrl" -}}
{{- if .Values.nats.enabled -}}
tls://{{ include "berth.name" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{- required "nats.external.url must be set when nats.enabled is false" .Values.nats.external.url -}}
{{- end -}}
{{- end -}}

{{/* What the restricted Pod security standard asks of a Pod, and of a container. */}}
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
