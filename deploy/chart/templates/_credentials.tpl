{{/* Credentials of the NATS clients. The server maps the DNS name in a client's certificate to a user. */}}

{{/* Names of the Secrets. */}}
{{- define "berth.secret.authority" -}}{{ include "berth.name" . }}-ca{{- end -}}
{{- define "berth.secret.nats" -}}{{ include "berth.name" . }}-nats-tls{{- end -}}
{{- define "berth.secret.scheduler" -}}{{ include "berth.name" . }}-scheduler-tls{{- end -}}
{{/* Takes root and group (a name). */}}
{{- define "berth.secret.group" -}}{{ include "berth.name" .root }}-host-{{ .group }}-tls{{- end -}}
{{/* Takes root and id. */}}
{{- define "berth.secret.bound" -}}{{ include "berth.name" .root }}-bound-{{ .id }}-tls{{- end -}}

{{/* Names of the users. */}}
{{- define "berth.user.scheduler" -}}scheduler.berth{{- end -}}
{{- define "berth.user.group" -}}{{ . }}.group.berth{{- end -}}
{{- define "berth.user.bound" -}}{{ . }}.bound.berth{{- end -}}

{{/* A Secret with a certificate: the existing one, or a new one. Takes root, name, dns (the DNS names) and ca (the
authority). */}}
{{- define "berth.certificate" }}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "berth.labels" (dict "root" .root "component" "credentials") | nindent 4 }}
data:
{{- $existing := lookup "v1" "Secret" .root.Release.Namespace .name }}
{{- if $existing }}
  ca.crt: {{ index $existing.data "ca.crt" }}
  tls.crt: {{ index $existing.data "tls.crt" }}
  tls.key: {{ index $existing.data "tls.key" }}
{{- else }}
{{- $signed := genSignedCert (first .dns) nil .dns (int .root.Values.tls.validityDays) .ca }}
  ca.crt: {{ .ca.Cert | b64enc }}
  tls.crt: {{ $signed.Cert | b64enc }}
  tls.key: {{ $signed.Key | b64enc }}
{{- end }}
{{- end }}
