"""Train from a checkout: `python scripts/train.py FOLDER`; options as those of `wavegen train`."""

import sys

from wavegen.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
