#!/usr/bin/env bash
# Sets up .venv if needed, trains for about two minutes and generates every class.
# With a folder of recordings as its argument it trains on that instead of on
# instruments that it synthesises.
set -euo pipefail
# The folder is named from where the user stands, not from where the project is.
folder=${1:+$(realpath -- "$1")}
source "$(dirname "$0")/setup.sh"
exec .venv/bin/python scripts/demo.py ${folder:+"$folder"}
