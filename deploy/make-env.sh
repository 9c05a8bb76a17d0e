#!/usr/bin/env bash
# Make .env of the example, or go on with the one that is there, and draw the passwords it lacks.
set -euo pipefail
cd "$(dirname "$0")/.."
test -e .env || install -m 600 .env.example .env
chmod 600 .env
test -z "$(tail -c 1 .env)" || echo >> .env
for name in REDIS_PASSWORD XCLIP_REDIS_SECRET GRAFANA_PASSWORD; do
  if ! grep -q "^$name=." .env; then
    printf '%s=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >> .env
    echo ".env: drew $name"
  fi
done
