"""`python -m detparity`, for an environment whose scripts are not on the path."""

from __future__ import annotations

import sys

from detparity.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
