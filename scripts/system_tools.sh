#!/bin/sh
# Installs what only Debian's packages have, if this is root on Debian; otherwise says what is missing and goes on.
set -u

ocr="" promtool=""
{ command -v tesseract >/dev/null 2>&1 && tesseract --list-langs 2>/dev/null | grep -qx rus; } ||
    ocr="tesseract-ocr tesseract-ocr-rus"
command -v promtool >/dev/null 2>&1 || promtool=promtool
has() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }
servers="" # for the tests of secure connections: those of the embedded stack were built without TLS
has redis-server || servers="$servers redis-server"
has pgbouncer || servers="$servers pgbouncer"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || servers="$servers postgresql"
[ -z "$ocr$promtool$servers" ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not here: $ocr $promtool$servers. Tests that need them are skipped; as root on Debian: make tools"
    echo "(promtool, which checks the alerts, is in Debian's package prometheus and in every Prometheus download)"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
if [ -n "$ocr" ]; then
    echo "installing $ocr"
    # shellcheck disable=SC2086
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $ocr; } >/dev/null ||
        echo "could not install $ocr; tests that need it are skipped"
fi

# Only the program out of the package: installing that would start a Prometheus and bring a dozen JavaScript packages.
take_promtool() { # in a subshell
    folder=$(mktemp -d) || return 1
    trap 'rm -rf "$folder"' EXIT
    cd "$folder" && chmod 755 . || return 1 # apt downloads as a user of its own
    { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } >/dev/null 2>&1 &&
        dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool &&
        install -m 755 usr/bin/promtool /usr/local/bin/promtool
}
if [ -n "$promtool" ]; then
    echo "taking promtool out of Debian's package prometheus"
    (take_promtool) || echo "could not get promtool; the tests of the alerts are skipped"
fi

# Without starting any of these servers, now or at the next boot: of pgbouncer only the program and the libraries it
# needs, Redis' program from the package of its tools, and Postgres without a cluster.
take_redis() {
    apt-get install -y -qq --no-install-recommends redis-tools >/dev/null &&
        ln -sf /usr/bin/redis-check-rdb /usr/local/bin/redis-server # one program; its name says what it does
}
take_pgbouncer() { # in a subshell
    libraries=$(apt-cache depends pgbouncer | sed -n 's/^  Depends: \(lib.*\)$/\1/p')
    folder=$(mktemp -d) || return 1
    trap 'rm -rf "$folder"' EXIT
    # shellcheck disable=SC2086
    cd "$folder" && chmod 755 . && apt-get install -y -qq --no-install-recommends $libraries >/dev/null &&
        apt-get download -qq pgbouncer >/dev/null 2>&1 &&
        dpkg-deb --fsys-tarfile pgbouncer_*.deb | tar -xf - ./usr/sbin/pgbouncer &&
        install -m 755 usr/sbin/pgbouncer /usr/local/sbin/pgbouncer
}
take_postgresql() {
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt-get install -y -qq --no-install-recommends postgresql >/dev/null
}
[ -n "$servers" ] && apt-get update -qq >/dev/null
for server in $servers; do
    echo "taking $server out of Debian's packages"
    case $server in
    redis-server) take_redis ;;
    pgbouncer) (take_pgbouncer) ;;
    postgresql) take_postgresql ;;
    esac || echo "could not get $server; tests of secure connections that need it are skipped"
done
exit 0
