"""`python -m wavegen` is the `wavegen` command."""

import sys

from wavegen.cli import main

sys.exit(main())
