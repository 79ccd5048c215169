"""``python -m workers.cli`` is ``outgate``."""

import sys

from workers.cli.main import main

sys.exit(main())
