#!/bin/sh
# Makes the certificates of docker-compose.cluster.yml in a folder: certificates.sh FOLDER
#
# An authority of its own (its key stays in FOLDER, for root alone) and, per service, a key that only that service's user
# can read. Run again it changes nothing, but renews what ends within 30 days; restart the services then.
# For real use replace the files by those of your own authority, and take ca-key.pem away: the other names stay.
set -eu
umask 022
folder=$1
RENEW_SECONDS=2592000

authority() {
    [ -s "$folder/ca.pem" ] && return
    (umask 077 && openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$folder/ca-key.pem")
    openssl req -x509 -new -key "$folder/ca-key.pem" -days 3650 -subj "/CN=vision compose authority" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -out "$folder/ca.pem.new"
    mv "$folder/ca.pem.new" "$folder/ca.pem"
}

# certificate NAME USER USAGE: for the host NAME, key readable by USER (the user of the service's image)
certificate() {
    own=$folder/$1
    if openssl x509 -in "$own/certificate.pem" -noout -checkend "$RENEW_SECONDS" >/dev/null 2>&1 &&
        openssl verify -CAfile "$folder/ca.pem" "$own/certificate.pem" >/dev/null 2>&1; then
        return
    fi
    [ -s "$folder/ca-key.pem" ] || {
        echo "$own/certificate.pem is missing, ends within 30 days or is not signed by $folder/ca.pem, and the" \
            "authority's key is not here to make another: put a new one there" >&2
        exit 1
    }
    mkdir -p "$own"
    rm -f "$own"/*
    printf '%s\n' "subjectAltName=DNS:$1,DNS:localhost,IP:127.0.0.1" "extendedKeyUsage=$3" \
        "keyUsage=critical,digitalSignature" "basicConstraints=critical,CA:FALSE" >"$own/extensions"
    (umask 077 && openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$own/key.pem")
    openssl req -new -key "$own/key.pem" -subj "/CN=$1" |
        openssl x509 -req -CA "$folder/ca.pem" -CAkey "$folder/ca-key.pem" -CAcreateserial -days 825 \
            -extfile "$own/extensions" -out "$own/certificate.new"
    rm "$own/extensions"
    (umask 077 && cat "$own/key.pem" "$own/certificate.new" >"$own/both.pem") # the form that Kafka reads
    [ "$(id -u)" != 0 ] || chown "$2" "$own/key.pem" "$own/both.pem"
    chmod 400 "$own/key.pem" "$own/both.pem"
    mv "$own/certificate.new" "$own/certificate.pem" # last: its presence says that all is done
    echo "made a certificate for $1"
}

authority
for broker in kafka kafka-2 kafka-3; do # brokers are also clients of each other
    certificate $broker 1000 serverAuth,clientAuth
done
certificate redis 999 serverAuth
certificate postgres 70 serverAuth

# Postgres: everybody proves a password, over the network with TLS only; the socket is the image's own, for its set-up.
cat >"$folder/postgres/pg_hba.conf" <<'END'
local   all all     trust
hostssl all all all scram-sha-256
END
