#!/usr/bin/env bash
# Makes the certificates that the tests of TLS use, good for a hundred years.
set -euo pipefail
cd "$(dirname "$0")"

# A certificate that is its own root: its name, what it is good for.
own() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$1" -addext "$2" \
        -keyout "$1.key.pem" -out "$1.pem"
}

# One that `root` signed: its name, what it is good for.
signed() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key.pem" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA root.pem -CAkey root.key.pem -days 36500 -out "$1.pem" \
        -extfile <(printf 'basicConstraints=CA:FALSE\n%s' "$2")
    rm "$1.csr"
}

own root subjectAltName=DNS:root.test
own lone subjectAltName=DNS:localhost
signed server subjectAltName=DNS:localhost
signed client extendedKeyUsage=clientAuth
# Nobody signs any more with it.
rm -f root.key.pem root.srl
