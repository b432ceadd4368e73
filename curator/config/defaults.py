"""What holds for a dataset when a flag is not given; no imports, so that --help stays quick."""

# The noise that is there, or injected, when --label-noise is not given.
DEFAULT_NOISE = {"digits": "sym:0.3", "cifar10n": "worst", "cifar100n": "noisy"}

# The datasets that have a name, whose recipes say how they are learned.
NAMES = (
    "digits", "cifar10", "cifar10n", "cifar100", "cifar100n", "animal10n", "clothing1m", "webvision", "tiny-imagenet",
)  # fmt: skip

# What makes features of any other one.
AUTO = BACKBONE = "auto"
