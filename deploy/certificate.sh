#!/bin/sh
# Makes a certificate for localhost where there is none, so that nginx starts and HTTP/2 can be tried. Browsers warn of it:
# for others, put your own certificate and key into the directory.
set -eu
directory=${1:-/etc/nginx/certificates}
if [ ! -e "$directory/hub.crt" ]; then
    mkdir -p "$directory"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -out "$directory/hub.crt" -keyout "$directory/hub.key"
fi
