#!/bin/sh
# Asks TF Serving for the expression on one picture: curl.sh PICTURE [MODEL] [URL]
set -eu
picture=$1 model=${2:-quickstart} url=${3:-http://localhost:8501}
content=$(base64 < "$picture" | tr -d '\n')
printf '{"signature_name": "serving_bytes", "instances": [{"picture_bytes": {"b64": "%s"}}]}' \
  "$content" | curl --silent --show-error --fail-with-body --data @- "$url/v1/models/$model:predict"
echo
