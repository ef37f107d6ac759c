"""``python -m tfdiag_ipython``: the command ``tfdiag``."""

import sys

from tfdiag_ipython.cli import main

sys.exit(main())
