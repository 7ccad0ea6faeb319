#!/usr/bin/env bash
# Sets up .venv if needed, trains for about two minutes and generates every class. Without a
# folder of recordings as its argument, it synthesises instruments and trains on those.
set -euo pipefail
# The folder is relative to the current folder of the user, not to the project.
folder=${1:+$(realpath -- "$1")}
source "$(dirname "$0")/setup.sh"
exec .venv/bin/python scripts/demo.py ${folder:+"$folder"}
