"""Generate from a checkout: `python scripts/generate.py RUN`; options as of `wavegen generate`."""

import sys

from wavegen.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
