{{/* The class whose Gateways are of egress: the controller knows it by this name. */}}
{{- define "portcullis.egressClass" -}}
portcullis-egress
{{- end }}

{{/* A GatewayClass and the GatewayParameters of its Gateways, of a list of the root, the name, where the values are, and these. */}}
{{- define "portcullis.gatewayClass" }}
{{- $root := index . 0 }}
{{- $name := index . 1 }}
{{- $values := index . 2 }}
{{- with index . 3 }}
{{- if and .parameters .parametersRef }}
{{- fail (printf "%s.parameters makes a GatewayParameters and %s.parametersRef names one: leave one of them out" $values $values) }}
{{- end }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata:
  name: {{ $name | quote }}
  labels:
    {{- include "portcullis.labels" $root | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  controllerName: {{ $root.Values.controllerName }}
  {{- with .description }}
  description: {{ . | quote }}
  {{- end }}
  {{- if or .parameters .parametersRef }}
  parametersRef:
    group: portcullis.dev
    kind: GatewayParameters
    name: {{ default $name .parametersRef.name | quote }}
    namespace: {{ default $root.Release.Namespace .parametersRef.namespace | quote }}
  {{- end }}
{{- if .parameters }}
---
apiVersion: portcullis.dev/v1alpha1
kind: GatewayParameters
metadata:
  name: {{ $name | quote }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "portcullis.labels" $root | nindent 4 }}
spec:
  {{- toYaml .parameters | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
