"""Find wrong labels: accelerate launch curator/clean.py --dataset cifar10n (see --help)."""

import sys
from pathlib import Path

if not __package__:  # started as a script: Python put curator/ first on the path, where it would hide other modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    from curator.cli.main import main

    sys.exit(main(["clean", *sys.argv[1:]]))
