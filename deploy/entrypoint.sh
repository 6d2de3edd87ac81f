#!/bin/sh
# Start the server inside the image. Arguments are passed on to `python -m serve`.
#
#   MODEL_URI           the model to serve (default: the one inside the image, /opt/model)
#   CHEST_CT_API_KEYS   API keys; when set, every request but /ping and /health needs one
set -eu

model_uri=${MODEL_URI:-/opt/model}
if [ "$model_uri" = /opt/model ] && [ ! -f /opt/model/MLmodel ]; then
    echo "chest-ct: expected a model, but this image has none inside and MODEL_URI is not set;" \
        "set MODEL_URI=models:/chest-ct/Production (with MLFLOW_TRACKING_URI) or s3://bucket/model" >&2
    exit 2
fi

has_access_option=false
for argument in "$@"; do
    case $argument in
    --no-auth | --api-key-file | --api-key-file=*) has_access_option=true ;;
    esac
done
if [ "$has_access_option" = false ] && [ -z "${CHEST_CT_API_KEYS:-}" ]; then
    echo "chest-ct: WARNING: no API key is set, so anyone who reaches this port can use it;" \
        "set CHEST_CT_API_KEYS to require one" >&2
    set -- --no-auth "$@"
fi
exec python -m serve --model-uri "$model_uri" --host 0.0.0.0 --port 5000 "$@"
