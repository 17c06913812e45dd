{{/* The configuration of the NATS server. See "Permissions on the bus" in README.md. */}}

{{/* The id prefix of a group's hosts, by which the server distinguishes groups. Its length must match $prefixToken
below. Takes the group's name. */}}
{{- define "berth.idPrefix" -}}
{{- sha256sum . | trunc 6 -}}
{{- end -}}

{{- define "berth.natsConfig" -}}
{{- $commands := list "heartbeat" "workload.start" "workload.stop" "workload.status" -}}
{{- $prefixToken := "{{left(1,6)}}" -}}
{{- $idToken := "{{wildcard(1)}}" -}}
{{- $groups := (include "berth.groups" . | fromJson).groups -}}
# nats-server listens on all addresses of both families.
listen: "0.0.0.0:4222"
http: "0.0.0.0:8222"
tls {
  cert_file: "/etc/nats-tls/tls.crt"
  key_file: "/etc/nats-tls/tls.key"
  ca_file: "/etc/nats-tls/ca.crt"
  verify_and_map: true
  timeout: 5
}
accounts {
  "scheduler" {
    users: [
      {
        user: {{ include "berth.user.scheduler" . | quote }}
        permissions: {
          # The server checks permissions after the mapping of runtime.host.ID.COMMAND to commands.PREFIX.ID.COMMAND.
          publish: {allow: ["commands.>", "berth.ext.v1.discover"]}
          subscribe: {allow: ["runtime.operator.heartbeat.*", "_INBOX.>"]}
        }
      }
    ]
    mappings: {
      {{- range $commands }}
      "runtime.host.*.{{ . }}": "commands.{{ $prefixToken }}.{{ $idToken }}.{{ . }}"
      {{- end }}
    }
    imports: [
      {{- range $group := $groups }}
      {{- $account := printf "group-%s" .name | quote }}
      {{- $prefix := include "berth.idPrefix" .name }}
      {stream: {account: {{ $account }}, subject: "heartbeats.{{ $prefix }}.*"}, to: "runtime.operator.heartbeat.*"}
      {service: {account: {{ $account }}, subject: "berth.ext.v1.discover"}}
      {{- range $commands }}
      {service: {account: {{ $account }}, subject: "runtime.host.*.{{ . }}"}, to: "commands.{{ $prefix }}.*.{{ . }}"}
      {{- end }}
      {{- end }}
      {{- if .Values.nats.boundHosts }}
      {service: {account: "bound", subject: "berth.ext.v1.discover"}}
      {{- end }}
      {{- range $host := .Values.nats.boundHosts }}
      {{- range $groups }}
      {{- if hasPrefix (include "berth.idPrefix" .name) $host.id }}
      {{- fail (printf "nats.boundHosts: the id %s starts with the id prefix of the group %s" $host.id .name) }}
      {{- end }}
      {{- end }}
      {stream: {account: "bound", subject: "runtime.operator.heartbeat.{{ .id }}"}}
      {{- range $commands }}
      {service: {account: "bound", subject: "runtime.host.{{ $host.id }}.{{ . }}"}, to: "commands.{{ trunc 6 $host.id }}.{{ $host.id }}.{{ . }}"}
      {{- end }}
      {{- end }}
    ]
  }
  {{- range $groups }}
  {{- $prefix := include "berth.idPrefix" .name }}
  "group-{{ .name }}" {
    users: [
      {
        user: {{ include "berth.user.group" .name | quote }}
        permissions: {
          publish: {allow: ["heartbeats.{{ $prefix }}.*"]}
          subscribe: {allow: ["runtime.host.*.>", "berth.ext.v1.discover"]}
          allow_responses: {max: 1, expires: "90s"}
        }
      }
    ]
    mappings: {"runtime.operator.heartbeat.*": "heartbeats.{{ $prefixToken }}.{{ $idToken }}"}
    exports: [
      {stream: "heartbeats.{{ $prefix }}.*", accounts: ["scheduler"]}
      {service: "runtime.host.*.>", accounts: ["scheduler"]}
      # All hosts of the group reply.
      {service: "berth.ext.v1.discover", response: stream, accounts: ["scheduler"]}
    ]
  }
  {{- end }}
  {{- if .Values.nats.boundHosts }}
  "bound" {
    users: [
      {{- range .Values.nats.boundHosts }}
      {
        user: {{ include "berth.user.bound" .id | quote }}
        permissions: {
          publish: {allow: ["runtime.operator.heartbeat.{{ .id }}"]}
          subscribe: {allow: ["runtime.host.{{ .id }}.>", "berth.ext.v1.discover"]}
          allow_responses: {max: 1, expires: "90s"}
        }
      }
      {{- end }}
    ]
    exports: [
      {{- range .Values.nats.boundHosts }}
      {stream: "runtime.operator.heartbeat.{{ .id }}", accounts: ["scheduler"]}
      {{- end }}
      {service: "runtime.host.*.>", accounts: ["scheduler"]}
      {service: "berth.ext.v1.discover", response: stream, accounts: ["scheduler"]}
    ]
  }
  {{- end }}
}
{{- end -}}
