#!/bin/sh
# Installs what only Debian's packages have, if this is root on Debian; otherwise says what is missing and goes on.
set -u

ocr="" servers="" promtool=""
{ command -v tesseract >/dev/null 2>&1 && tesseract --list-langs 2>/dev/null | grep -qx rus; } ||
    ocr="tesseract-ocr tesseract-ocr-rus"
# program:package, for the tests of secure connections; none of them is started as a service of the system
for wanted in nginx:nginx-light tinyproxy:tinyproxy-bin; do
    PATH="$PATH:/usr/sbin" command -v "${wanted%%:*}" >/dev/null 2>&1 || servers="$servers ${wanted##*:}"
done
command -v promtool >/dev/null 2>&1 || promtool=promtool
[ -z "$ocr$servers$promtool" ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not here: $ocr$servers $promtool. Tests that need them are skipped; as root on Debian: make tools"
    echo "(promtool, which checks the alerts, is in Debian's package prometheus and in every Prometheus download)"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
# Installed packages must not start services here: policy-rc.d says so to Debian's scripts.
install() {
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
    install "$ocr" "$servers" >/dev/null || echo "could not install $ocr$servers; tests that need them are skipped"
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
