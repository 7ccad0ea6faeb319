"""`python -m wavegen` is the `wavegen` command."""

import sys

from wavegen.commands.main import main

sys.exit(main())
