#!/bin/bash
# Run an image as a careful host would and check what it promises.
#
#   deploy/smoke.sh IMAGE               an image that is there already
#   deploy/smoke.sh --build IMAGE       build it first; further arguments go to the build
#   deploy/smoke.sh --compare IMAGE     also build `mlflow models build-docker`'s image of
#                                       artifacts/training/model, compare answers and sizes (minutes)
#
# --build and --compare may be given together.
# CONTAINER_TOOL names docker or podman; without it, whichever works is taken.
# stdout gets one line per check; exit code 0 when all hold, 1 at the first that does not.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
}
find_tool() {
    local candidate
    for candidate in ${CONTAINER_TOOL:-docker podman}; do
        if "$candidate" info >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "smoke: expected a working container engine, found neither docker nor podman" >&2
    exit 1
}

build=false
compare=false
while [[ ${1:-} = -* ]]; do
    case $1 in
    --build) build=true ;;
    --compare) compare=true ;;
    *) usage ;;
    esac
    shift
done
[ $# -ge 1 ] || usage
image=$1
shift
tool=$(find_tool)
export BUILDAH_FORMAT=docker # podman: the image's format that keeps HEALTHCHECK
name=chest-ct-smoke-$$
mlflow_image=
folder=$(mktemp -d)

cleanup() {
    local status=$?
    if [ "$status" -ne 0 ]; then "$tool" logs --tail 30 "$name" >&2 2>/dev/null || true; fi
    # One by one: podman removes none where one of them is missing.
    "$tool" rm -f "$name" >/dev/null 2>&1 || true
    "$tool" rm -f "$name-mlflow" >/dev/null 2>&1 || true
    if [ -n "$mlflow_image" ]; then "$tool" rmi -f "$mlflow_image" >/dev/null 2>&1 || true; fi
    rm -rf "$folder"
}
trap cleanup EXIT

pass() { echo "ok: $*"; }
broken() {
    echo "smoke: $*" >&2
    exit 1
}
address_of() { "$tool" port "$1" "$2/tcp" | head -n 1; }
size_mb() { echo $(($("$tool" image inspect -f '{{.Size}}' "$1") / 1000000)); }

wait_for() { # CONTAINER URL SECONDS
    local deadline=$((SECONDS + $3))
    until curl -fsS --max-time 2 -o /dev/null "$2" 2>/dev/null; do
        [ "$("$tool" inspect -f '{{.State.Running}}' "$1")" = true ] || broken "$1 stopped"
        [ "$SECONDS" -lt "$deadline" ] || broken "$2 did not answer within $3 s"
        sleep 0.2
    done
}

# podman's settings for builds (certificates, a package index), where they differ from its others.
build_settings=()
if [ -n "${CONTAINER_BUILD_CONF:-}" ]; then build_settings=(env "CONTAINERS_CONF=$CONTAINER_BUILD_CONF"); fi
if [ "$build" = true ]; then "${build_settings[@]}" "$tool" build -t "$image" "$@" . >&2; fi

user=$("$tool" image inspect -f '{{.Config.User}}' "$image")
[[ $user =~ ^[1-9][0-9]*(:[0-9]+)?$ ]] || broken "expected a numeric user that is not root, found '$user'"
pass "runs as user $user"
history=$("$tool" history --no-trunc --format '{{.CreatedBy}}' "$image")
config=$("$tool" image inspect -f '{{json .Config}}' "$image")
if grep -qE 'AKIA[0-9A-Z]{16}|AWS_SECRET|API_KEYS=|PASSWORD=|TOKEN=' <<<"$history $config"; then
    broken "the image's history or configuration holds what looks like a secret"
fi
pass "no secret in the history and the configuration"

key=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
started=$SECONDS
"$tool" run -d --name "$name" --network bridge --publish 127.0.0.1::5000 \
    --read-only --tmpfs /tmp --memory 600m --pids-limit 256 --cap-drop ALL \
    --security-opt no-new-privileges --env CHEST_CT_API_KEYS="$key" "$image" >/dev/null
url=http://$(address_of "$name" 5000)
wait_for "$name" "$url/health" 60
pass "answers /health after $((SECONDS - started)) s, with a read-only root, 600 MB, no capabilities"
"$tool" exec "$name" python -c 'import os; assert os.getuid() == 10001; open("/tmp/x", "w")'
if "$tool" exec "$name" sh -c ': > /app/x' 2>/dev/null; then broken "the root can be written to"; fi
if "$tool" exec "$name" python -c 'import tensorflow' 2>/dev/null; then broken "TensorFlow is inside"; fi
"$tool" exec "$name" python -c 'import boto3, pyarrow.parquet'
pass "process is not root, root is read-only, TensorFlow is not inside"

probe=$("$tool" image inspect -f '{{json .Config.Healthcheck.Test}}' "$image" 2>/dev/null ||
    "$tool" image inspect -f '{{json .HealthCheck.Test}}' "$image")
grep -q /readyz <<<"$probe" || broken "expected a HEALTHCHECK that asks /readyz, found $probe"
"$tool" exec "$name" python -c "import json, subprocess, sys
kind, *command = json.loads(sys.argv[1])
assert kind == 'CMD', kind
subprocess.run(command, check=True)" "$probe"
pass "HEALTHCHECK succeeds"

"$tool" exec "$name" python -c "import io, sys
from PIL import Image, ImageDraw
scan = Image.new('L', (256, 256), 10)
draw = ImageDraw.Draw(scan)
draw.ellipse((20, 50, 236, 206), fill=150)
draw.ellipse((45, 75, 120, 180), fill=30)
draw.ellipse((136, 75, 211, 180), fill=30)
data = io.BytesIO()
scan.save(data, 'PNG')
sys.stdout.buffer.write(data.getvalue())" >"$folder/scan.png"
echo "not a scan" >"$folder/broken.png"
curl -fsS --max-time 60 -H "X-API-Key: $key" -F "files=@$folder/scan.png" \
    -F "files=@$folder/broken.png" "$url/predict" >"$folder/rows.json"
"$tool" exec -i "$name" python -c "import json, sys
good, bad = json.load(sys.stdin)['predictions']
assert good['file'] == 'scan.png' and good['label'] and good['error'] is None, good
total = sum(v for k, v in good.items() if k.startswith('p_'))
assert abs(total - 1) < 1e-6, good
assert bad['label'] is None and bad['error'], bad
print(f\"ok: a scan is {good['label']} ({good['probability']:.3f}); a broken file gets its error\")
" <"$folder/rows.json"
code=$(curl -s -o /dev/null -w '%{http_code}' -F "files=@$folder/scan.png" "$url/predict")
[ "$code" = 401 ] || broken "expected 401 without the API key, received $code"
pass "401 without the API key"
curl -fsS --max-time 10 "$url/" >"$folder/page.html"
grep -qi 'not a medical device' "$folder/page.html" || broken "the page does not say what it is not"
pass "the page, with its warning"

printf '{"dataframe_split": {"columns": ["image"], "data": [["%s"], ["bm90IGEgc2Nhbg=="]]}}' \
    "$(base64 -w 0 "$folder/scan.png")" >"$folder/request.json"
curl -fsS --max-time 60 -H "X-API-Key: $key" -H 'Content-Type: application/json' \
    -d "@$folder/request.json" "$url/invocations" >"$folder/ours.json"

started=$SECONDS
"$tool" stop -t 10 "$name" >/dev/null
code=$("$tool" inspect -f '{{.State.ExitCode}}' "$name")
[ $((SECONDS - started)) -lt 10 ] && [ "$code" = 0 ] ||
    broken "expected to stop cleanly within 10 s, took $((SECONDS - started)) s, exit code $code"
pass "stops in $((SECONDS - started)) s with exit code 0"
size=$(size_mb "$image")
if [ "$compare" = false ]; then
    pass "$image takes $size MB"
    exit
fi

mlflow_image=localhost/chest-ct-mlflow:$$
# MLflow calls `docker`; a machine with podman alone gets it under that name.
if ! docker info >/dev/null 2>&1; then
    ln -s "$(command -v "$tool")" "$folder/docker"
    export PATH=$folder:$PATH
fi
"${build_settings[@]}" mlflow models build-docker -m artifacts/training/model -n "$mlflow_image" --env-manager local >&2
# Two workers on two cores, as it starts by itself, need more than one process's memory.
"$tool" run -d --name "$name-mlflow" --network bridge --publish 127.0.0.1::8080 "$mlflow_image" >/dev/null
url=http://$(address_of "$name-mlflow" 8080)
wait_for "$name-mlflow" "$url/ping" 120
curl -fsS --max-time 60 -H 'Content-Type: application/json' \
    -d "@$folder/request.json" "$url/invocations" >"$folder/theirs.json"
cmp "$folder/ours.json" "$folder/theirs.json" || broken "the two images answer differently"
pass "mlflow models build-docker's image gives the same answer, byte for byte"
"$tool" stop -t 10 "$name-mlflow" >/dev/null
pass "$image takes $size MB, mlflow models build-docker's $(size_mb "$mlflow_image") MB"
