#!/bin/sh
# The worker's container: whether GigaChat is simulated, then the command.
#
# It is if the profile `demo`, which starts the simulator, is one of COMPOSE_PROFILES. The settings are written into a
# file that every program of the container reads (`docker exec worker vision config`, too), and the file is removed
# without that profile. The environment has precedence over it, where it is not empty.
set -eu

file=${VISION_HOME:-/var/lib/vision}/env
case ",$(printf %s "${COMPOSE_PROFILES:-}" | tr -d ' ')," in
*,demo,* | *",*,"*) # `*` means every profile
    cat >"$file.new" <<'END'
GIGACHAT_BASE_URL=http://gigachat:8085/api/v1
GIGACHAT_AUTH_URL=http://gigachat:8085/api/v2/oauth
GIGACHAT_CLIENT_ID=demo
GIGACHAT_CLIENT_SECRET=demo
GIGACHAT_SIMULATED=true
END
    mv "$file.new" "$file"
    ;;
*) rm -f "$file" ;;
esac
exec "$@"
