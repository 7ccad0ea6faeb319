# Sourced by the other scripts: makes .venv with pinned versions, or reuses it.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Written last, so an interrupted installation starts again.
stamp=.venv/wavegen-installed
if ! cmp -s constraints.txt "$stamp"; then
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "wavegen needs Python 3.11 or later: set PYTHON to one" >&2
        exit 2
    fi
    "$python" -m venv .venv
    echo "installing into .venv (about two minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable '.[dev]'
    cp constraints.txt "$stamp"
fi
