"""README.md of a run and of a version of it: a dataset card with where the rows come from and how they were judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curator.decisions.journal import MACHINE
from curator.result.report import md, percent
from curator.sources.opening import LICENSE
from curator.text import printable

# What follows is the source's own text; publishing reads it from the run's card.
OWN = "<!-- label-curator: below is the card of the source -->"
IMAGES = "The images lie in `images/SPLIT/CLASS`; `labels.csv` has the columns, but for the soft label."
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
    said = facts.get("published")
    prefix = facts["settings"].get("column_prefix") or ""
    columns = {
        "clean_score": "float32 in [0, 1]; 1 = the given label is surely right",
        "selected": "bool; the given label is kept as clean",
        "corrected_label": "the given label where selected, else the method's suggestion",
        "teacher_soft_label": f"{len(classes)} float32; the nets' softmax, unsharpened",
        "row": "int64; 0-based position in the source split",
    }
    now = "suggested" if said is None or said["policy"] == "annotate" else "published"
    parts = [
        f"---\n{_metadata(facts, splits, content)}\n---",
        f"# {md(facts['name'])}, curated",
        _of_the_labels(facts["label_column"], said),
        *([IMAGES] if said and said["format"] == "imagefolder" else []),
        _table(["column", "meaning"], [(f"`{prefix}{name}`", meaning) for name, meaning in columns.items()]),
        "## Provenance",
        _table(["", ""], _provenance(facts)),
        *(["## This version", _table(["", ""], _version(said))] if said else []),
        "## Most frequent changes",
        _table(["given", now, "rows"], [(md(classes[a]), md(classes[b]), f"{n:,}") for a, b, n in changes]),
        "## Use",
        f"```python\n{_how_to_load(facts, prefix)}\n```",
        f"Made with label-curator {facts['versions']['label-curator']}; to reproduce it:",
        f"```\n{printable(facts['command'])}\n```",
        "`curation.json` holds every setting, `report/report.md` the findings with pictures, `issues.csv` the flagged "
        "rows.",
        *([OWN, "## The card of the source", own.strip()] if own else []),
    ]
    return "\n\n".join(parts) + "\n"


def own_text(card: str) -> str | None:
    """The text of the source's card inside a run's card."""
    _, found, text = card.partition(f"\n{OWN}\n\n## The card of the source\n")
    return text.strip() if found else None


def _metadata(facts: dict[str, Any], splits: list[str], content: str) -> str:
    from huggingface_hub import DatasetCardData

    source, said = facts["source"], facts.get("published")
    images = said is not None and said["format"] == "imagefolder"
    configs = {"default": "data"}
    if said and said["clean"] and not images:  # a config without rows cannot be loaded
        configs["clean"] = "data" if said["policy"] == "filter" else "clean"
    reviewed = said is not None and ({*said["reviewers"]} - {MACHINE} or facts["trusted"]["count"])
    data = DatasetCardData(
        **{name: source.get(name) for name in LICENSE},
        annotations_creators=["machine-generated", *["expert-generated"] * bool(reviewed)],
        source_datasets=[source["id"]] if "/" in source.get("id", "") else None,
        task_categories=["image-classification"],
        task_ids=["multi-class-image-classification"],
        size_categories=[next((name for size, name in SIZES if facts["n"] < size), "n>10M")],
        tags=["label-errors", "noisy-labels", "label-curator"],
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
    return data.to_yaml().strip()


def _of_the_labels(column: str, said: dict[str, Any] | None) -> str:
    """What the label column holds."""
    column = f"**{md(column)}**"
    if said is None or said["policy"] == "annotate":
        return f"{column} holds the labels as they were given; these columns say what became of them:"
    where = "; `original_label` holds those that were given" if said["policy"] == "relabel" else ""
    return f"{column} holds the curated labels{where}. These columns say how they came about:"


def _provenance(facts: dict[str, Any]) -> list[tuple[str, str]]:
    source, noise = facts["source"], facts["settings"].get("label_noise")
    revision = f", revision {source['revision']}" if source.get("revision") else ""
    rows = [
        ("source", f"{source.get('id') or facts['name']}{revision}"),
        ("license", source.get("license") or "not known: see the source"),
        ("split", f"{facts['split']}, {facts['n']:,} rows"),
        ("rows that could not be used", f"{facts['quarantined']:,}: nulls" if facts.get("quarantined") else None),
        ("label noise", f"{noise} (see true_label)" if noise else None),
        ("method", f"{facts['method']}, recipe {facts['recipe'] or 'none (defaults)'}, seed {facts['seed']}"),
        ("flagged labels", f"{facts['n'] - facts['selected']:,} ({percent(facts['estimated_noise_rate'])})"),
        ("labels with a new suggestion", f"{facts['changed']:,}"),
        ("rows verified before the run", f"{facts['trusted']['count']:,}"),
    ]
    return [(name, md(str(value), 200)) for name, value in rows if value is not None]


def _version(said: dict[str, Any]) -> list[tuple[str, str]]:
    """What the policy and the reviewers did, and how many labels are wrong before and after."""
    sure = f", corrected where the confidence is at least {said['min_confidence']:g}"
    reviewers = ", ".join(f"{md(name, 40)} {count:,}" for name, count in said["reviewers"].items())
    before, after = said["vouched"]
    rows = [
        ("policy", said["policy"] + (sure if said["policy"] == "relabel" else "")),
        ("labels changed", f"{said['labels_changed']:,} of {said['rows']:,} rows"),
        ("rows of config clean", f"{said['clean']:,}"),
        ("verified", f"{said['verified']:,} labels, {said['dropped']:,} rows dropped"),
        ("rows decided by reviewers", reviewers or "none"),
        (
            "labels that are neither selected, verified nor corrected",
            f"{percent(before)} before, {percent(after)} after",
        ),
    ]
    if said["wrong"]:
        before, after = said["wrong"]
        rows.append(("wrong labels, against the known truth", f"{percent(before)} before, {percent(after)} after"))
    for audit in said["audits"]:
        spans = [
            f"{percent(rate['estimate'])} {when} (95 % interval {percent(rate['low'])} to {percent(rate['high'])})"
            for when, rate in (("before", audit["before"]), ("after", audit["after"]))
        ]
        who = f"wrong labels, by a blind audit of {audit['rows']:,} rows ({md(audit['reviewer'], 40)})"
        rows.append((who, ", ".join(spans)))
    return rows


def _how_to_load(facts: dict[str, Any], prefix: str) -> str:
    load = f'load_dataset("PATH_OR_ID", %ssplit="{facts["split"]}")'
    lines = ["from datasets import load_dataset", "", f"data = {load % ''}"]
    if facts.get("published") is None:
        lines.append(f'clean = data.filter(lambda selected: selected, input_columns="{prefix}selected")')
    elif facts["published"]["clean"] and facts["published"]["format"] == "parquet":
        clean = '"clean", '
        lines.append(f"clean = {load % clean}")
    return "\n".join(lines)


def _table(head: list[str], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("|  |", "| |")
