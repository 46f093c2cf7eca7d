{{- define "petasos.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "petasos.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "petasos.labels" -}}
{{ include "petasos.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "petasos.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* http or https: what the hub speaks, and the name of its port. */}}
{{- define "petasos.scheme" -}}
{{ empty .Values.tls.existingSecret | ternary "http" "https" }}
{{- end }}

{{- define "petasos.servicePort" -}}
{{ .Values.service.port | default (empty .Values.tls.existingSecret | ternary 80 443) | int }}
{{- end }}

{{/* Its URL for applications in the cluster, without a path; the host is given. */}}
{{- define "petasos.serviceUrl" -}}
{{- $scheme := include "petasos.scheme" .root }}{{ $port := include "petasos.servicePort" .root | int }}
{{- $scheme }}://{{ .host }}{{ if ne $port (eq $scheme "https" | ternary 443 80) }}:{{ $port }}{{ end }}
{{- end }}

{{- define "petasos.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "petasos.fullname" .) }}
{{- end }}

{{/* durable, memory or shared: what the log allows. A URL in a Secret cannot be seen here, so it counts as shared. */}}
{{- define "petasos.log" -}}
{{- if .Values.log.existingSecret }}shared
{{- else if hasPrefix "durable:" .Values.log.url }}durable
{{- else if hasPrefix "memory:" .Values.log.url }}memory
{{- else }}shared
{{- end }}
{{- end }}

{{- define "petasos.isShared" -}}
{{- if eq (include "petasos.log" .) "shared" }}true{{ end }}
{{- end }}

{{- define "petasos.drainDelay" -}}
{{- $given := .Values.drain.delaySeconds }}
{{- if not (kindIs "invalid" $given) }}{{ int $given }}{{ else if include "petasos.isShared" . }}5{{ else }}0{{ end }}
{{- end }}

{{- define "petasos.drain" -}}
{{- $given := .Values.drain.seconds }}
{{- if not (kindIs "invalid" $given) }}{{ int $given }}{{ else if include "petasos.isShared" . }}30{{ else }}2{{ end }}
{{- end }}

{{/* The hub ends two seconds after its drain at the latest. */}}
{{- define "petasos.grace" -}}
{{ add (include "petasos.drainDelay" . | int) (include "petasos.drain" . | int) 5 }}
{{- end }}

{{/* The host that clients use, if the chart knows it. */}}
{{- define "petasos.host" -}}
{{- if .Values.httpRoute.enabled }}{{ first (.Values.httpRoute.hostnames | default (list "")) }}
{{- else if .Values.ingress.enabled }}{{ .Values.ingress.host }}
{{- end }}
{{- end }}

{{- define "petasos.publicUrl" -}}
{{- if .Values.config.public_url }}{{ .Values.config.public_url }}
{{- else if include "petasos.host" . }}https://{{ include "petasos.host" . }}/.well-known/mercure
{{- end }}
{{- end }}

{{/* The path of the public URL. */}}
{{- define "petasos.path" -}}
{{- $path := (urlParse (include "petasos.publicUrl" . | default "http://hub/.well-known/mercure")).path }}
{{- $path | trimSuffix "/" | default "/" }}
{{- end }}

{{/* A value in TOML: JSON writes texts, switches and lists in the same way. Numbers of values are floats, those of the hub are not. */}}
{{- define "petasos.toml" -}}
{{- if kindIs "map" . }}{ {{ range $at, $key := keys . | sortAlpha }}{{ if $at }}, {{ end }}{{ $key }} = {{ include "petasos.toml" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . }}[{{ range $at, $each := . }}{{ if $at }}, {{ end }}{{ include "petasos.toml" $each }}{{ end }}]
{{- else if kindIs "float64" . }}{{ int64 . }}
{{- else }}{{ toJson . }}
{{- end }}
{{- end }}

{{/* Seconds of a duration of the hub, such as 15, 90s, 500ms or 2m. */}}
{{- define "petasos.seconds" -}}
{{- $text := toString . }}
{{- if kindIs "float64" . }}{{ int64 . }}
{{- else if hasSuffix "ms" $text }}{{ div (add (trimSuffix "ms" $text | int64) 999) 1000 }}
{{- else if hasSuffix "m" $text }}{{ mul (trimSuffix "m" $text | int64) 60 }}
{{- else if hasSuffix "h" $text }}{{ mul (trimSuffix "h" $text | int64) 3600 }}
{{- else }}{{ trimSuffix "s" $text | int64 }}
{{- end }}
{{- end }}

{{/* How long a proxy waits for bytes, in seconds: five times keep_alive, at least 75. A day, if the hub may be silent for ever. */}}
{{- define "petasos.proxyTimeout" -}}
{{- $keepAlive := include "petasos.seconds" (hasKey .Values.config "keep_alive" | ternary .Values.config.keep_alive "15s") | int64 }}
{{- if $keepAlive }}{{ max 75 (mul 5 $keepAlive) }}{{ else }}86400{{ end }}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "petasos.check" -}}
{{- $values := .Values }}
{{- if not (include "petasos.isShared" .) }}
{{- if gt (int $values.replicas) 1 }}
{{- fail (printf "replicas: %d pods cannot share the log %q. Set replicas to 1, or log.url to redis://, nats:// or postgres://" (int $values.replicas) $values.log.url) }}
{{- end }}
{{- if $values.autoscaling.enabled }}
{{- fail (printf "autoscaling.enabled: several pods cannot share the log %q. Set log.url to redis://, nats:// or postgres://" $values.log.url) }}
{{- end }}
{{- end }}
{{- if and (not $values.log.existingSecret) (regexMatch "://[^?@]*:[^?@]*@|^(nats|tls)://[^?]*@|[?&](?i:[a-z_]*password)=" $values.log.url) }}
{{- fail "log.url: this URL has a password or a token, which every reader of the release would see. Put the URL into a Secret, and name it in log.existingSecret" }}
{{- end }}
{{- $hasKeys := or $values.config.publisher_jwks_url $values.config.subscriber_jwks_url $values.config.issuers }}
{{- if not (or $values.keys.existingSecret $hasKeys) }}
{{- fail "keys.existingSecret: name a Secret with the keys. Make one: kubectl create secret generic petasos-keys --from-literal=publisher=\"$(openssl rand -hex 32)\" --from-literal=subscriber=\"$(openssl rand -hex 32)\"" }}
{{- end }}
{{- range $role := list "publisher" "subscriber" }}
{{- if and $values.keys.existingSecret (get $values.keys (print $role "Jwks")) (hasKey $values.config (print $role "_jwks_url")) }}
{{- fail (printf "keys.%sJwks: config.%s_jwks_url names keys, too. Take one of the two" $role $role) }}
{{- end }}
{{- end }}
{{- if not (or $hasKeys $values.keys.publisher $values.keys.publisherJwks $values.keys.subscriber $values.keys.subscriberJwks) }}
{{- fail "keys.publisher: name the entry of the Secret with the key" }}
{{- end }}
{{- if not (or $hasKeys $values.keys.subscriber $values.keys.subscriberJwks $values.config.anonymous) }}
{{- fail "keys.subscriber: nobody could subscribe. Name the entry of the Secret with the key, or set config.anonymous to true" }}
{{- end }}
{{- if and $values.metrics.enabled (not $values.metrics.existingSecret) }}
{{- fail "metrics.existingSecret: the port for operators needs a token. Make one: kubectl create secret generic petasos-metrics --from-literal=token=\"$(openssl rand -hex 32)\"" }}
{{- end }}
{{- if and (or $values.metrics.serviceMonitor.enabled $values.metrics.prometheusRule.enabled) (not $values.metrics.enabled) }}
{{- fail "metrics.enabled: set it to true, because metrics.serviceMonitor and metrics.prometheusRule need the metrics" }}
{{- end }}
{{- if and $values.autoscaling.enabled (not $values.metrics.enabled) }}
{{- fail "metrics.enabled: set it to true, because the autoscaler counts streams by the metrics" }}
{{- end }}
{{- $most := hasKey $values.config "max_subscribers" | ternary $values.config.max_subscribers 100000 | int64 }}
{{- if and $values.autoscaling.enabled $most (ge (int64 $values.autoscaling.targetStreams) $most) }}
{{- fail (printf "autoscaling.targetStreams: pods refuse streams beyond config.max_subscribers, %d. Set it to two thirds of that" $most) }}
{{- end }}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: name the Gateway, such as [{name: public, namespace: gateways}]" }}
{{- end }}
{{- if and $values.ingress.enabled (not $values.ingress.host) }}
{{- fail "ingress.host: name the host of the hub, such as hub.example.com" }}
{{- end }}
{{- if and (contains "*" (include "petasos.host" .)) (not $values.config.public_url) }}
{{- fail (printf "config.public_url: name the URL of the hub that clients use, because %s is the host of many" (include "petasos.host" .)) }}
{{- end }}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas: it is more than autoscaling.maxReplicas" }}
{{- end }}
{{- end }}
