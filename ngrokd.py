#!/usr/bin/env python3
"""Launcher for a checkout: `python3 ngrokd.py` is the command `ngrokd`."""

import sys

from ngrokd.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
