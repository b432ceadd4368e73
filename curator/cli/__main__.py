"""python -m curator.cli COMMAND: as label-curator, where that is not installed."""

from curator.cli.main import console

console()
