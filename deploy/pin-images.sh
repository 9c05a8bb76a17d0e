#!/usr/bin/env bash
# Write the images of others into .env with the digests that their tags have now, so that compose
# takes the same bytes until this is run again. Needs docker with buildx, and a network.
set -euo pipefail
cd "$(dirname "$0")/.."
test -z "$(tail -c 1 .env)" || echo >> .env
files=(docker-compose.yml deploy/docker-compose.monitoring.yml)
grep -ohE '\$\{(BASE|REDIS|PROMETHEUS|GRAFANA)_IMAGE:-[^}]+' "${files[@]}" | sort -u |
  while IFS= read -r found; do
    name=${found#'${'} name=${name%%:-*} image=${found#*:-}
    digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}')
    sed -i "/^$name=/d" .env
    printf '%s=%s@%s\n' "$name" "$image" "$digest" >> .env
    echo ".env: $name=$image@$digest"
  done
