#!/bin/sh
# Checks the compose file and the worker's image on a machine without Docker: lints, builds deploy/Dockerfile with buildah
# on a stand-in for its base, runs the acceptance guide's commands in it (deploy/image_check.py), then the cluster
# (deploy/cluster_check.py).
# What this proves and what it cannot: docs/deployment.md. Nothing is skipped; a missing tool ends it with exit code 2.
set -eu
cd "$(dirname "$0")/.."

CACHE=${VISION_CACHE:-$HOME/.cache/vision_app}/image-check
COMPOSE_VERSION=v2.40.3
COMPOSE=$CACHE/docker-compose-$COMPOSE_VERSION
LINT=$CACHE/dockerfile-lint-$COMPOSE_VERSION-$(cksum <deploy/dockerfile_lint.go | cut -d" " -f1)
STAND_IN=localhost/vision-stand-in:bookworm
IMAGE=localhost/vision-app:image-check
PYTHON=.venv/bin/python

step() { printf '\n=== %s (%s s)\n' "$1" "$(($(date +%s) - STARTED))"; }
needs() { echo "image-check needs $1" >&2; exit 2; }
STARTED=$(date +%s)

step "tools"
[ "$(id -u)" = 0 ] || needs "root: buildah enters the image with chroot, and services run in a network of their own"
command -v apt-get >/dev/null || needs "a Debian-like system with apt-get"
[ -x $PYTHON ] || needs "the virtual environment: make image-check makes it"
missing=""
for tool in buildah debootstrap shellcheck jq curl; do command -v $tool >/dev/null || missing="$missing $tool"; done
command -v ip >/dev/null || missing="$missing iproute2"
if [ -n "$missing" ]; then
    echo "installing$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
        needs "$missing; apt-get could not install them"
fi
{ command -v redis-server && ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 || sh scripts/system_tools.sh
{ command -v redis-server && ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 ||
    needs "redis-server and Postgres with TLS, from Debian's packages redis-tools and postgresql"
{ [ -x "$COMPOSE" ] && [ -x "$LINT" ]; } || command -v go >/dev/null ||
    needs "Go 1.24 or later, to build Docker Compose $COMPOSE_VERSION and the linter once"
mkdir -p "$CACHE"

step "shell scripts: shellcheck"
shellcheck deploy/*.sh scripts/*.sh

step "Dockerfile, compose file, example settings: our rules"
$PYTHON -m pytest -q -p no:cacheprovider tests/unit/test_deploy_compose.py tests/unit/test_deploy_image.py \
    tests/unit/test_deploy_monitoring.py tests/unit/test_deploy_scripts.py tests/unit/test_pin_images.py

step "locked libraries: wheels for the real base's Python 3.12"
.venv/bin/uv pip install --dry-run --quiet --only-binary :all: --require-hashes -r requirements-run.lock \
    --python-version 3.12 --python-platform x86_64-manylinux_2_36 --target "$CACHE/nowhere"

step "docker compose $COMPOSE_VERSION and BuildKit's linter, from their Go modules"
if [ ! -x "$COMPOSE" ] || [ ! -x "$LINT" ]; then
    echo "building them, once: about four minutes"
    source=$(go mod download -json "github.com/docker/compose/v2@$COMPOSE_VERSION" | jq -r .Dir)
    build=$(mktemp -d) && cp -r "$source/." "$build" && chmod -R u+w "$build"
    mkdir "$build/cmd/lint" && cp deploy/dockerfile_lint.go "$build/cmd/lint/"
    (cd "$build" && nice go build -mod=mod -o "$COMPOSE.new" ./cmd && nice go build -mod=mod -o "$LINT.new" ./cmd/lint)
    rm -rf "$build" && mv "$COMPOSE.new" "$COMPOSE" && mv "$LINT.new" "$LINT"
fi

step "deploy/Dockerfile: the rules of docker build --check"
"$LINT" deploy/Dockerfile

step "docker-compose.yml, docker-compose.cluster.yml: config"
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
mkdir "$project/config" "$project/deploy"
cp docker-compose.yml docker-compose.cluster.yml "$project"
# config PROFILES FILE...: what compose makes of the files, as JSON
config() {
    profiles=$1 && shift
    sed "s/^COMPOSE_PROFILES=.*/COMPOSE_PROFILES=$profiles/" .env.example >"$project/.env"
    # shellcheck disable=SC2046
    (cd "$project" && "$COMPOSE" $(printf -- '-f %s ' "$@") config --format json)
}
services() { jq -r '.services | keys | join(" ")' "$1"; }
BASE="kafka neo4j permissions postgres redis s3 worker"
OBS="grafana kafka kafka-exporter neo4j permissions postgres postgres-exporter prometheus redis redis-exporter s3 worker"
config "" docker-compose.yml >"$project/real.json" && [ "$(services "$project/real.json")" = "$BASE" ]
config obs docker-compose.yml >"$project/obs.json" && [ "$(services "$project/obs.json")" = "$OBS" ]
config demo docker-compose.yml >"$project/demo.json" && [ "$(services "$project/demo.json")" = "gigachat $BASE" ]
for profiles in obs demo,obs "obs, demo"; do
    told=$(config "$profiles" docker-compose.yml | jq -r .services.worker.environment.COMPOSE_PROFILES)
    [ "$told" = "$profiles" ] || { echo "the worker is told the profiles '$told', not '$profiles'" >&2 && exit 1; }
done
config demo,obs docker-compose.yml docker-compose.cluster.yml >"$project/cluster.json"
MORE="certificates gigachat kafka-2 kafka-3 kafka-users"
# shellcheck disable=SC2086
[ "$(services "$project/cluster.json")" = "$(printf '%s\n' $OBS $MORE | LC_ALL=C sort | paste -sd " ")" ]
for given in "POSTGRES_PASSWORD docker-compose.yml" "NEO4J_PASSWORD docker-compose.yml" \
    "CLUSTER_KAFKA_PASSWORD docker-compose.cluster.yml" "CLUSTER_REDIS_PASSWORD docker-compose.cluster.yml"; do
    sed "s/^${given% *}=.*//" .env.example >"$project/.env"
    if (cd "$project" && "$COMPOSE" -f docker-compose.yml -f "${given#* }" config --quiet 2>refusal); then
        echo "a missing ${given% *} was accepted" >&2 && exit 1
    fi
    grep -q "${given% *} is missing a value: set it in .env" "$project/refusal"
done
echo "valid with each profile and as a cluster; a missing password is refused by name"

step "stand-in for the base image"
if ! buildah inspect --type image $STAND_IN >/dev/null 2>&1; then
    container=$(buildah from scratch)
    root=$(buildah mount "$container")
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" >"$CACHE/debootstrap.log"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" # this machine may be behind a gateway of its own
    buildah umount "$container" >/dev/null
    buildah commit --quiet --rm "$container" $STAND_IN >/dev/null
fi
buildah run --isolation chroot "$(buildah from --name vision-stand-in-look $STAND_IN)" -- python3 --version
buildah rm vision-stand-in-look >/dev/null

# Out of files that nobody but their owner may read, as a clone made with umask 077 has them.
step "deploy/Dockerfile: build"
mkdir "$project/clone"
(umask 077 && sed -n 's/^!//p' .dockerignore | tar --exclude=__pycache__ -cT - .dockerignore deploy/Dockerfile |
    tar -x --no-same-permissions -C "$project/clone")
[ "$(stat -c %a "$project/clone/deploy/start.sh")" = 700 ]
buildah bud --isolation chroot --network host --format docker --layers --ulimit nofile=1024:4096 \
    --build-arg BASE_IMAGE=$STAND_IN -t $IMAGE -f "$project/clone/deploy/Dockerfile" "$project/clone" >"$CACHE/build.log" 2>&1 ||
    { tail -30 "$CACHE/build.log" >&2; exit 1; }
buildah images --format '{{.Name}} {{.Size}}' $IMAGE

step "the guide's commands in the image, as its user"
unshare --net --mount $PYTHON deploy/image_check.py "$project/demo.json" $IMAGE

step "three brokers, TLS everywhere: docker-compose.cluster.yml, the worker in the image"
unshare --net --mount $PYTHON deploy/cluster_check.py "$project/cluster.json" $IMAGE

step "passed"
