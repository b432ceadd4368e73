"""README.md of a run and of a version of it: a dataset card with where the rows come from and how they were judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from curator.decisions.decision import MACHINE
from curator.result.pages import md, percent
from curator.sources.cards import LICENSE
from curator.text import printable

# What follows is the source's own text; publishing reads it from the run's card.
OWN = "<!-- label-curator: below is the card of the source -->"
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def dataset_card(
    facts: dict[str, Any],  # of curation.json; a version has "published"
    classes: Sequence[str],
    changes: list[tuple[int, int, int]],  # (given, now, rows), class numbers, the most frequent first
    splits: list[str],
    content: str,  # hash of the data files
    own: str | None,  # text of the source's card
) -> str:
    """The card's text. Its YAML names the data files, so that load_dataset reads nothing else of the folder."""
    said = facts.get("published") or {}
    card = DatasetCard.from_template(
        _metadata(facts, splits, content), str(Path(__file__).with_name("card.md")), facts=facts, said=said,
        as_given=said.get("policy", "annotate") == "annotate", source=facts["source"],
        prefix=facts["settings"].get("column_prefix") or "", classes=classes, changes=changes, own=own, below=OWN,
        md=md, percent=percent, printable=printable, count="{:,}".format,
    )  # fmt: skip
    return f"{card}\n"


def own_text(card: str) -> str | None:
    """The text of the source's card inside a run's card."""
    _, found, text = card.partition(f"\n{OWN}\n\n## The card of the source\n")
    return text.strip() if found else None


def _metadata(facts: dict[str, Any], splits: list[str], content: str) -> DatasetCardData:
    source, said = facts["source"], facts.get("published")
    images = said is not None and said["format"] == "imagefolder"
    configs = {"default": "data"}
    if said and said["clean"] and not images:  # a config without rows cannot be loaded
        configs["clean"] = "data" if said["policy"] == "filter" else "clean"
    kind = "image" if facts.get("text_column") is None else "text"
    reviewed = said is not None and ({*said["reviewers"]} - {MACHINE} or facts["trusted"]["count"])
    return DatasetCardData(
        **{name: source.get(name) for name in LICENSE},
        annotations_creators=["machine-generated", *["expert-generated"] * bool(reviewed)],
        source_datasets=[source["id"]] if "/" in source.get("id", "") else None,
        task_categories=[f"{kind}-classification"],
        task_ids=["multi-class-image-classification"] if kind == "image" else None,
        size_categories=[next((name for size, name in SIZES if facts["n"] < size), "n>10M")],
        tags=["label-errors", "noisy-labels", "label-curator"],
        **_responsible(facts),
        pretty_name=f"{facts['name']}, curated",
        # The description is for load_dataset's cache, which is keyed by this entry and not by the files: without it a
        # run that replaced another would load as the old one.
        configs=[
            {
                "config_name": name,
                "data_files": [  # other splits are the same in both
                    {
                        "split": s,
                        "path": f"images/{s}/**" if images else f"{folder if s == facts['split'] else 'data'}/{s}-*",
                    }
                    for s in splits
                ],
                **({"drop_labels": False} if images else {}),
                "description": f"label-curator {content}",
            }
            for name, folder in configs.items()
        ],
    )


def _responsible(facts: dict[str, Any]) -> dict[str, Any]:
    """How the labels came about and which are known to be wrong, in the words of Croissant's RAI vocabulary.

    The Hub keeps them in the card's data; what it generates for Croissant has no such fields.
    """
    said = facts.get("published")
    if said is None:
        return {}
    people = sum(1 for name in said["reviewers"] if name != MACHINE)
    process = (
        f"Labels of the source, judged by {facts['method']} (label-curator), then policy {said['policy']}: "
        f"{said['verified']:,} labels verified and {said['dropped']:,} rows dropped by {people} reviewers, "
        f"{said['labels_changed']:,} of {said['rows']:,} labels changed."
    )
    known = [
        f"{percent(after['estimate'])} of the labels are wrong (95 % interval {percent(after['low'])} to "
        f"{percent(after['high'])}), by a blind audit of {audit['rows']:,} rows."
        for audit in said["audits"]
        for after in [audit["after"]]
    ]
    unvouched = f"{percent(said['vouched'][1])} of the labels are neither selected, verified nor corrected."
    return {"rai:dataAnnotationProtocol": process, "rai:dataLimitations": " ".join([*known, unvouched])}
