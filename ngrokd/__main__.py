"""`python3 -m ngrokd`."""

import sys

from ngrokd.cli import main

if __name__ == "__main__":
    sys.exit(main())
