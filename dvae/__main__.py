"""`python -m dvae` is the command `dvae`."""

import sys

from dvae.cli import main

if __name__ == "__main__":
    sys.exit(main())
