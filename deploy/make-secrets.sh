#!/bin/sh
# Makes what docker-compose.yml reads from deploy/secrets, where it is not there yet: a token, passwords,
# and a certificate that nobody vouches for, to try it with. Put yours over fullchain.pem and key.pem.
set -eu
cd "$(dirname "$0")/secrets"
name="${1:-gateway.example.net}"
umask 022

# Containers run as users of their own, who must be able to read these: the directory, not the files,
# keeps other people of this machine out.
chmod 700 .
for file in admin_token grafana_password store_password; do
    [ -s "$file" ] || openssl rand -hex 32 >"$file"
done
# The same password, as the store reads it.
printf 'requirepass "%s"\n' "$(cat store_password)" >store_auth
if [ ! -s key.pem ] && [ ! -s fullchain.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
        -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
        -keyout key.pem -out fullchain.pem 2>/dev/null
    chmod 644 key.pem
    echo "made a certificate for $name: good for trying it out only"
fi
echo "the dashboard's token: $(pwd)/admin_token; Grafana's password: $(pwd)/grafana_password"
