"""Look at what a run found: python app.py runs/digits-promix (see --help)."""

import sys

from curator.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["review", *sys.argv[1:]]))
