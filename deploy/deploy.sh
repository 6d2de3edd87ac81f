#!/bin/bash
# Replace the running container by IMAGE, and keep the old one unless the new one answers.
#
#   deploy/deploy.sh IMAGE        pull IMAGE and run it
#   deploy/deploy.sh --rollback   go back to the container that ran before the last deployment
#
# IMAGE is first started beside the running container, on a port nobody knows; only when its
# /health answers is the old one stopped. A second run with the same image changes nothing.
#
# Settings, from the environment:
#   CONTAINER_TOOL      docker or podman                          (docker)
#   CHEST_CT_NAME       name of the container                     (chest-ct)
#   CHEST_CT_PORT       host port, or address:port                (80)
#   CHEST_CT_ENV_FILE   variables for the server, one a line      (/etc/chest-ct/chest-ct.env)
#                       it must be there, so that a lost file cannot open the server; it may be empty
#   CHEST_CT_MEMORY     memory limit of the container             (1g)
#   HEALTH_TIMEOUT_S    how long a start may take, in seconds     (90)
#   AWS_ECR_LOGIN_URI   registry to sign in to with the AWS CLI   (any *.dkr.ecr.* in IMAGE)
#
# Exit codes:
#   0  IMAGE is running and healthy
#   1  IMAGE did not come up; what ran before is running again (or never stopped)
#   2  wrong usage, or another deployment is under way; nothing was changed
#   3  IMAGE could not be had from its registry; nothing was changed
#   4  neither the new nor the old container answers: somebody has to look
set -euo pipefail

tool=${CONTAINER_TOOL:-docker}
name=${CHEST_CT_NAME:-chest-ct}
port=${CHEST_CT_PORT:-80}
env_file=${CHEST_CT_ENV_FILE:-/etc/chest-ct/chest-ct.env}
memory=${CHEST_CT_MEMORY:-1g}
timeout_s=${HEALTH_TIMEOUT_S:-90}
swapping=false       # the old container is being replaced: a failure has to undo that
old_id=              # the container to put back then
previous_id=         # the container that --rollback starts, which must not be lost
credentials=         # folder of this run's registry login

say() { echo "deploy: $*" >&2; }
fail() {
    local code=$1
    shift
    say "$*"
    exit "$code"
}

# Without the lock's descriptor: podman's monitor would hold it as long as the container lives.
container() { "$tool" "$@" 9>&-; }
exists() { container inspect --type container "$1" >/dev/null 2>&1; }
remove() { container rm -f "$1" >/dev/null 2>&1 || true; }
state_of() { container inspect --type container -f "$2" "$1"; }

# The address on which this host reaches the container's server.
url_of() {
    local published
    published=$(container port "$1" 5000/tcp | head -n 1)
    published=${published/#0.0.0.0:/127.0.0.1:}
    published=${published/#\[::\]:/127.0.0.1:}
    echo "http://$published/health"
}

responds() { curl -fsS --max-time 3 -o /dev/null "$1" 2>/dev/null; }
answers() {
    local url
    url=$(url_of "$1" 2>/dev/null) && responds "$url"
}

wait_until_healthy() {
    local deadline=$((SECONDS + timeout_s)) url
    url=$(url_of "$1" 2>/dev/null) || url= # a stopped container has no port; said below
    while [ "$SECONDS" -lt "$deadline" ]; do
        if [ -n "$url" ] && responds "$url"; then return 0; fi
        if [ "$(state_of "$1" '{{.State.Running}}')" != true ]; then
            say "$1 stopped with exit code $(state_of "$1" '{{.State.ExitCode}}')"
            return 1
        fi
        sleep 0.5
    done
    say "$1 did not answer /health within $timeout_s s"
    return 1
}

show_logs() {
    say "last lines of $1:"
    container logs --tail 20 "$1" >&2 || true
}

# The network is named because hosts may be set up with another default.
start_container() {
    local container=$1 publish=$2 image=$3
    shift 3
    local options=(
        --network bridge --publish "$publish" --memory "$memory" --pids-limit 256
        --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
        --log-opt max-size=10m --label "chest-ct.settings=$(settings_digest)"
        --env-file "$env_file"
    )
    container run -d --name "$container" "${options[@]}" "$@" "$image" >/dev/null
}

settings_digest() {
    { echo "$port $memory"; cat "$env_file"; } | sha256sum | cut -c 1-16
}

sign_in() {
    local registry=${1%%/*} region
    if [ "$registry" != "${AWS_ECR_LOGIN_URI:-}" ] && [[ $registry != *.dkr.ecr.*.amazonaws.com* ]]; then
        return 0
    fi
    region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(cut -d . -f 4 <<<"$registry")}}
    # A folder of its own, so that no token stays on the host.
    credentials=$(mktemp -d)
    export DOCKER_CONFIG=$credentials REGISTRY_AUTH_FILE=$credentials/config.json
    echo '{}' >"$credentials/config.json"
    aws ecr get-login-password --region "$region" |
        container login --username AWS --password-stdin "$registry" >/dev/null
}

fetch() {
    local image=$1 first=${1%%/*}
    if [[ $first != *[.:]* || $image != */* ]] &&
        container image inspect "$image" >/dev/null 2>&1; then
        say "$image was built on this host"
        return 0
    fi
    sign_in "$image" || fail 3 "could not sign in to ${image%%/*}: check the AWS keys or the instance's role"
    say "pulling $image"
    container pull -q "$image" >/dev/null ||
        fail 3 "could not pull $image: check its name and tag, and that this host may read the repository"
}

# A run that was killed between stopping the old container and keeping the new one.
recover() {
    remove "$name-candidate"
    if ! exists "$name-old"; then
        if exists "$name" && ! answers "$name"; then container start "$name" >/dev/null 2>&1 || true; fi
        return 0
    fi
    say "an earlier deployment was cut off"
    if exists "$name" && answers "$name"; then
        keep_old
        return 0
    fi
    old_id=$(state_of "$name-old" '{{.Id}}')
    restore || fail 4 "$name does not answer; somebody has to look"
    old_id=
}

# The new container answers: the one before becomes the way back, the one before that goes.
keep_old() {
    local outdated=
    exists "$name-old" || return 0
    if exists "$name-previous"; then
        outdated=$(state_of "$name-previous" '{{.Image}}')
        remove "$name-previous"
    fi
    container rename "$name-old" "$name-previous"
    if [ -n "$outdated" ]; then container image rm "$outdated" >/dev/null 2>&1 || true; fi
}

# Make room for a container called $name; from here on a failure puts the old one back.
set_aside() {
    swapping=true
    exists "$name" || return 0
    old_id=$(state_of "$name" '{{.Id}}')
    container stop -t 15 "$name" >/dev/null
    container rename "$name" "$name-old"
}

# Undo a swap. True when the old container answers again, or there was none.
restore() {
    if exists "$name" && [ "$(state_of "$name" '{{.Id}}')" != "$old_id" ]; then
        if [ "$(state_of "$name" '{{.Id}}')" = "$previous_id" ]; then
            container stop -t 15 "$name" >/dev/null
            container rename "$name" "$name-previous"
        else
            remove "$name"
        fi
    fi
    if [ -z "$old_id" ]; then return 0; fi
    say "putting the old container back"
    exists "$name" || container rename "$old_id" "$name"
    container start "$name" >/dev/null && wait_until_healthy "$name"
}

on_exit() {
    local status=$?
    trap '' INT TERM HUP
    set +e
    remove "$name-candidate"
    if [ "$swapping" = true ]; then
        restore || { say "$name does not answer; the old container could not be put back"; status=4; }
    fi
    if [ -n "$credentials" ]; then rm -rf "$credentials"; fi
    exit "$status"
}

deploy() {
    local image=$1 image_id
    fetch "$image"
    recover
    image_id=$(container image inspect -f '{{.Id}}' "$image")
    if exists "$name" && [ "$(state_of "$name" '{{.Image}}')" = "$image_id" ] &&
        [ "$(state_of "$name" '{{index .Config.Labels "chest-ct.settings"}}')" = "$(settings_digest)" ] &&
        answers "$name"; then
        say "$image is running already"
        return 0
    fi
    say "trying $image beside the running container"
    if ! start_container "$name-candidate" 127.0.0.1::5000 "$image" ||
        ! wait_until_healthy "$name-candidate"; then
        show_logs "$name-candidate"
        fail 1 "$image did not come up; nothing was changed"
    fi
    remove "$name-candidate"
    set_aside
    if ! start_container "$name" "$port:5000" "$image" --restart unless-stopped ||
        ! wait_until_healthy "$name"; then
        show_logs "$name"
        fail 1 "$image did not come up on port $port"
    fi
    swapping=false
    keep_old
    say "$image answers on port $port"
}

rollback() {
    recover
    exists "$name-previous" || fail 2 "there is no container to go back to"
    previous_id=$(state_of "$name-previous" '{{.Id}}')
    set_aside
    container rename "$name-previous" "$name"
    if ! container start "$name" >/dev/null || ! wait_until_healthy "$name"; then
        show_logs "$name"
        fail 1 "the container before did not come up"
    fi
    swapping=false
    keep_old
    say "$(state_of "$name" '{{.Config.Image}}') answers on port $port again"
}

if [ $# -ne 1 ] || [ -z "$1" ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
if [[ $1 = -* && $1 != --rollback ]]; then fail 2 "expected an image or --rollback, received $1"; fi
if ! [[ $timeout_s =~ ^[1-9][0-9]*$ ]]; then
    fail 2 "expected HEALTH_TIMEOUT_S to be a number of seconds, received '$timeout_s'"
fi
[ -r "$env_file" ] || fail 2 "expected the server's settings in $env_file, which is not there or" \
    "not readable by $(id -un); make it (it may be empty, which lets everybody in)"
exec 9>"${TMPDIR:-/tmp}/$name-deploy.lock"
flock -n 9 || fail 2 "another deployment of $name is under way"
trap on_exit EXIT
trap 'exit 1' INT TERM HUP
if [ "$1" = --rollback ]; then rollback; else deploy "$1"; fi
