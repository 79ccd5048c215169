#!/bin/sh
# Makes the files of the secrets, where they are not there yet: the store's password and URL, the admin
# service's token, and a certificate that nobody vouches for, to try it with.
set -eu
cd "$(dirname "$0")"
name="${1:-gateway.example.net}"
umask 077

if [ ! -s auth.conf ]; then
    password="$(openssl rand -hex 24)"
    echo "requirepass $password" >auth.conf
    printf 'redis://:%s@store:6379/0' "$password" >url
fi
[ -s token ] || openssl rand -hex 32 >token
if [ ! -s tls.key ] && [ ! -s tls.crt ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
        -subj "/CN=$name" -addext "subjectAltName=DNS:$name" -keyout tls.key -out tls.crt 2>/dev/null
    echo "made a certificate for $name: good for trying it out only"
fi
