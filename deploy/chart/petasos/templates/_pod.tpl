{{/* The pod, for the Deployment and the StatefulSet. */}}
{{- define "petasos.pod" -}}
metadata:
  labels:
    {{- include "petasos.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if .Values.rollOnConfigChange }}
    checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- end }}
    kubectl.kubernetes.io/default-container: petasos
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "petasos.serviceAccount" . }}
  automountServiceAccountToken: false
  # Variables such as PETASOS_PORT would look like settings of the hub.
  enableServiceLinks: false
  # drain_delay, drain and 5 seconds more.
  terminationGracePeriodSeconds: {{ include "petasos.grace" . }}
  securityContext:
    runAsNonRoot: true
    {{- with .Values.runAsUser }}
    runAsUser: {{ int64 . }}
    runAsGroup: {{ int64 . }}
    # The group may read the keys and write to the volume of the log.
    fsGroup: {{ int64 . }}
    {{- end }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: petasos
      image: {{ include "petasos.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      env:
        - name: PETASOS_CONFIG
          value: /etc/petasos/petasos.toml
        {{- if .Values.log.existingSecret }}
        - name: PETASOS_TRANSPORT
          valueFrom:
            secretKeyRef:
              name: {{ .Values.log.existingSecret }}
              key: {{ .Values.log.secretEntry }}
        {{- end }}
        {{- if .Values.metrics.enabled }}
        - name: PETASOS_ADMIN_TOKEN
          valueFrom:
            secretKeyRef:
              name: {{ .Values.metrics.existingSecret }}
              key: {{ .Values.metrics.tokenEntry }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: {{ include "petasos.scheme" . }}
          containerPort: 5500
        {{- if .Values.metrics.enabled }}
        - name: metrics
          containerPort: 5501
        {{- end }}
      # A log on disk may be long: it has five minutes to be opened.
      startupProbe:
        httpGet:
          path: /healthz
          port: {{ include "petasos.scheme" . }}
          {{- if .Values.tls.existingSecret }}
          scheme: HTTPS
          {{- end }}
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 150
      # Restarted only if the process hangs or a part of it has failed, not while the store of the log is unavailable.
      livenessProbe:
        httpGet:
          path: /healthz
          port: {{ include "petasos.scheme" . }}
          {{- if .Values.tls.existingSecret }}
          scheme: HTTPS
          {{- end }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      # Not /readyz: while the store of the log is unavailable, all pods would leave the Service at once, and browsers would get
      # the 503 of a proxy, which ends an EventSource for good. A pod of the hub opens their streams meanwhile. A pod that is
      # deleted leaves the Service at once, whatever its probe says.
      readinessProbe:
        httpGet:
          path: /healthz
          port: {{ include "petasos.scheme" . }}
          {{- if .Values.tls.existingSecret }}
          scheme: HTTPS
          {{- end }}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/petasos
          readOnly: true
        {{- if .Values.keys.existingSecret }}
        - name: keys
          mountPath: /run/secrets/petasos
          readOnly: true
        {{- end }}
        {{- if .Values.tls.existingSecret }}
        - name: tls
          mountPath: /run/secrets/tls
          readOnly: true
        {{- end }}
        {{- if eq (include "petasos.log" .) "durable" }}
        - name: log
          mountPath: /var/lib/petasos
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "petasos.fullname" . }}
    {{- if .Values.keys.existingSecret }}
    - name: keys
      secret:
        secretName: {{ .Values.keys.existingSecret }}
        # The group of the pod reads them, nobody else.
        defaultMode: 0440
    {{- end }}
    {{- if .Values.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ .Values.tls.existingSecret }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if kindIs "invalid" .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "petasos.selector" . | nindent 10 }}
  {{- else if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- end }}
{{- end }}
