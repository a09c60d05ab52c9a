{{/* How the CRDs of Gateway API are installed: they belong to the cluster, not to one controller in it. */}}
{{- define "portcullis.gatewayAPI" -}}
kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.7.0/standard-install.yaml
{{- end }}

{{- define "portcullis.missingGatewayAPI" }}

The cluster has no Gateway API, or none of version v1. Install its CRDs first; they are shared by all controllers of a cluster, so
this chart does not bring them along:

  {{ include "portcullis.gatewayAPI" . }}

Take experimental-install.yaml instead for kinds that are not yet stable. To install without a GatewayClass:
--set gatewayClass.create=false
{{ end }}
