#!/bin/sh
# Installs what only Debian's packages have, if this is root on Debian; otherwise says what is missing and goes on.
set -u

has() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }
ocr="" servers="" promtool="" databases=""
{ command -v tesseract >/dev/null 2>&1 && tesseract --list-langs 2>/dev/null | grep -qx rus; } ||
    ocr="tesseract-ocr tesseract-ocr-rus"
# program:package, for the tests of secure connections; none of them is started as a service of the system
for wanted in nginx:nginx-light tinyproxy:tinyproxy-bin; do
    has "${wanted%%:*}" || servers="$servers ${wanted##*:}"
done
# Chromium opens the pages in the tests; the font has Cyrillic letters
has chromium || servers="$servers chromium fonts-dejavu-core"
has promtool || promtool=promtool
has prometheus-alertmanager || promtool="$promtool alertmanager"
# for the same tests: the servers of the embedded stack were built without TLS
has redis-server || databases="$databases redis-server"
has pgbouncer || databases="$databases pgbouncer"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || databases="$databases postgresql"
[ -z "$ocr$servers$promtool$databases" ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not here: $ocr$servers $promtool$databases. Tests that need them are skipped; as root on Debian: make tools"
    echo "(promtool, which checks the alerts, is in Debian's package prometheus and in every Prometheus download)"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
# Installed packages must not start services here: policy-rc.d says so to Debian's scripts.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=yes
    fi
    # shellcheck disable=SC2068
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $@
    result=$?
    [ -z "$made" ] || rm -f "$policy"
    return $result
}
if [ -n "$ocr$servers" ]; then
    echo "installing $ocr$servers"
    install_packages "$ocr" "$servers" >/dev/null || echo "could not install $ocr$servers; tests that need them are skipped"
fi

# Only the program out of the package: installing that would start a server and bring a dozen JavaScript packages.
take_program() { # package, program, other files it reads; in a subshell
    folder=$(mktemp -d) || return 1
    trap 'rm -rf "$folder"' EXIT
    cd "$folder" && chmod 755 . || return 1 # apt downloads as a user of its own
    { apt-get download -qq "$1" || { apt-get update -qq && apt-get download -qq "$1"; }; } >/dev/null 2>&1 &&
        dpkg-deb --fsys-tarfile "$1"_*.deb | tar -xf - "./usr/bin/$2" ${3:+"./$3"} || return 1
    [ -z "${3:-}" ] || { mkdir -p "/$3" && cp -R "$3/." "/$3/"; } || return 1
    install -m 755 "usr/bin/$2" "/usr/local/bin/$2"
}
for program in $promtool; do
    case $program in
    promtool) package=prometheus files="" ;;
    alertmanager) package=prometheus-alertmanager program=$package files=usr/share/prometheus/alertmanager ;;
    esac
    echo "taking $program out of Debian's package $package"
    (take_program "$package" "$program" "$files") || echo "could not get $program; the tests of the alerts are skipped"
done

# Of pgbouncer only the program and the libraries it needs, Redis' program from the package of its tools, and Postgres
# without a cluster: nothing of it starts, now or at the next boot.
take_redis() {
    install_packages redis-tools >/dev/null &&
        ln -sf /usr/bin/redis-check-rdb /usr/local/bin/redis-server # one program; its name says what it does
}
take_pgbouncer() { # in a subshell
    libraries=$(apt-cache depends pgbouncer | sed -n 's/^  Depends: \(lib.*\)$/\1/p')
    folder=$(mktemp -d) || return 1
    trap 'rm -rf "$folder"' EXIT
    # shellcheck disable=SC2086
    cd "$folder" && chmod 755 . && install_packages $libraries >/dev/null &&
        apt-get download -qq pgbouncer >/dev/null 2>&1 &&
        dpkg-deb --fsys-tarfile pgbouncer_*.deb | tar -xf - ./usr/sbin/pgbouncer &&
        install -m 755 usr/sbin/pgbouncer /usr/local/sbin/pgbouncer
}
take_postgresql() {
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    install_packages postgresql >/dev/null
}
[ -n "$databases" ] && apt-get update -qq >/dev/null
for server in $databases; do
    echo "taking $server out of Debian's packages"
    case $server in
    redis-server) take_redis ;;
    pgbouncer) (take_pgbouncer) ;;
    postgresql) take_postgresql ;;
    esac || echo "could not get $server; tests of secure connections that need it are skipped"
done
exit 0
