"""What holds for a named dataset when a flag is not given; no imports, so that --help stays quick."""

# The noise that is there, or injected, when --label-noise is not given.
DEFAULT_NOISE = {"digits": "sym:0.3", "cifar10n": "worst", "cifar100n": "noisy"}
