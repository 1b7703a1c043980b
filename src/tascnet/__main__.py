"""`python -m tascnet`, as torchrun starts it: the command line."""

import sys

from tascnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
