#!/usr/bin/env bash
# Sets up .venv if needed and runs the tests; options go to pytest (-m slow, -k name, ...).
set -euo pipefail
source "$(dirname "$0")/setup.sh"
exec .venv/bin/python -m pytest -m "not slow" "$@"
