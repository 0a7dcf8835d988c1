{{- define "vdcos.selector" -}}
app.kubernetes.io/name: vdcos
app.kubernetes.io/component: operator
{{- end }}

{{- define "vdcos.labels" -}}
{{ include "vdcos.selector" . }}
app.kubernetes.io/part-of: vdcos
{{- end }}

{{- define "vdcos.monitoringLabels" -}}
app.kubernetes.io/name: vdcos
app.kubernetes.io/component: monitoring
{{- end }}

{{- define "vdcos.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* How containers must be where Pod Security is restricted. */ -}}
{{- define "vdcos.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "vdcos.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}
