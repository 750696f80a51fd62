#!/bin/sh
# Checks the compose file and the worker's image on a machine without Docker: lints, builds deploy/Dockerfile with buildah
# on a stand-in for its base, and runs the acceptance guide's commands in it (deploy/image_check.py).
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
{ [ -x "$COMPOSE" ] && [ -x "$LINT" ]; } || command -v go >/dev/null ||
    needs "Go 1.24 or later, to build Docker Compose $COMPOSE_VERSION and the linter once"
mkdir -p "$CACHE"

step "shell scripts: shellcheck"
shellcheck deploy/*.sh scripts/*.sh

step "Dockerfile, compose file, example settings: our rules"
$PYTHON -m pytest -q -p no:cacheprovider tests/unit/test_deploy_compose.py tests/unit/test_deploy_image.py \
    tests/unit/test_deploy_monitoring.py

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

step "docker-compose.yml: config"
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
mkdir "$project/config" "$project/deploy"
cp docker-compose.yml "$project" && cp deploy/monitoring.yml "$project/deploy" && cp .env.example "$project/.env"
(cd "$project" && "$COMPOSE" config --format json >demo.json)
(cd "$project" && sed -i /^COMPOSE_PROFILES=/d .env && "$COMPOSE" config --format json >real.json)
jq -e '.services.gigachat and .services.worker.environment.GIGACHAT_SIMULATED == "true"' "$project/demo.json" >/dev/null
jq -e '.services.gigachat == null and .services.worker.environment.GIGACHAT_SIMULATED == ""' "$project/real.json" >/dev/null
if (cd "$project" && sed -i 's/^NEO4J_PASSWORD=.*//' .env && "$COMPOSE" config --quiet 2>refusal); then
    echo "a missing password was accepted" >&2 && exit 1
fi
grep -q 'NEO4J_PASSWORD is missing a value: set it in .env' "$project/refusal"
monitors=$(cd "$project" && cp "$OLDPWD/.env.example" .env &&
    "$COMPOSE" -f docker-compose.yml -f deploy/monitoring.yml config --format json | jq -r '.services | keys | join(" ")')
[ "$monitors" = "gigachat grafana kafka neo4j postgres prometheus redis s3 worker" ]
echo "valid with and without the demo profile; a missing password is refused by name; valid with deploy/monitoring.yml"

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

step "deploy/Dockerfile: build"
buildah bud --isolation chroot --network host --format docker --layers --ulimit nofile=1024:4096 \
    --build-arg BASE_IMAGE=$STAND_IN -t $IMAGE -f deploy/Dockerfile . >"$CACHE/build.log" 2>&1 ||
    { tail -30 "$CACHE/build.log" >&2; exit 1; }
buildah images --format '{{.Name}} {{.Size}}' $IMAGE

step "the guide's commands in the image, as its user"
unshare --net --mount $PYTHON deploy/image_check.py "$project/demo.json" $IMAGE

step "passed"
