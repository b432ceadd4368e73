"""README.md of the output: a dataset card with where the rows come from and how their labels were judged."""

from __future__ import annotations

import shlex
from typing import Any

from curator.curation.columns import Columns
from curator.curation.report import md, pairs, percent
from curator.sources.load import NAMED
from curator.sources.table import Table

LINES = "\n"
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def dataset_card(
    table: Table,
    facts: dict[str, Any],  # of curation.json
    settings: dict[str, Any],  # those that decide the result
    columns: Columns,
    splits: list[str],
    prefix: str,
    content: str,  # hash of the data files
) -> str:
    """The card's text.

    Its YAML names the data files, so that load_dataset reads nothing else of the folder.
    """
    from huggingface_hub import DatasetCardData

    source = table.source.get("id")
    data = DatasetCardData(
        license=table.source.get("license"),
        annotations_creators=["machine-generated"],
        source_datasets=[str(source)] if source and "/" in source else None,
        task_categories=["image-classification"],
        task_ids=["multi-class-image-classification"],
        size_categories=[next((name for size, name in SIZES if facts["n"] < size), "n>10M")],
        tags=["label-errors", "noisy-labels", "label-curator"],
        pretty_name=f"{table.name}, curated",
        # The description is for load_dataset's cache, which is keyed by this entry and not by the files: without it a
        # run that replaced another would load as the old one.
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"data/{s}-*"} for s in splits],
                "description": f"label-curator {content}",
            }
        ],
    )
    noise = facts["settings"].get("label_noise")
    rows = [
        (
            "source",
            f"{source or table.name}"
            + (f", revision {table.source['revision']}" if table.source.get("revision") else ""),
        ),
        ("license", table.source.get("license") or "not known: see the source"),
        ("split", f"{facts['split']}, {facts['n']:,} rows"),
        ("label noise", f"{noise} (see true_label)" if noise else None),
        ("method", f"{facts['method']}, recipe {facts['recipe'] or 'none (defaults)'}, seed {facts['seed']}"),
        ("labels held to be wrong", f"{facts['n'] - facts['selected']:,} ({percent(facts['estimated_noise_rate'])})"),
        ("labels changed", f"{facts['changed']:,}"),
        ("verified rows", f"{facts['trusted']['count']:,}"),
    ]
    named = settings["dataset"] if settings["dataset"] in NAMED else source or table.name
    k = len(table.classes)
    k_names = {
        "clean_score": "float32 in [0, 1]; 1 = the given label is surely right",
        "selected": "bool; the given label is kept as clean",
        "corrected_label": "the given label where selected, else the method's suggestion",
        "teacher_soft_label": f"{k} float32; the nets' softmax, unsharpened",
        "row": "int64; 0-based position in the source split",
    }
    meanings = [f"| `{prefix}{name}` | {meaning} |" for name, meaning in k_names.items()]
    provenance = [f"| {name} | {md(str(value), 200)} |" for name, value in rows if value is not None]
    changes = [
        f"| {md(table.classes[a])} | {md(table.classes[b])} | {n} |" for a, b, n in pairs(columns, table.labels, k)
    ]
    return f"""---
{data.to_yaml().strip()}
---

# {md(table.name)}, curated

{as_given(table.label_column)}

| column | meaning |
|---|---|
{LINES.join(meanings)}

## Provenance

| | |
|---|---|
{LINES.join(provenance)}

## Most frequent changes

| given | suggested | rows |
|---|---|---|
{LINES.join(changes)}

## Use

```python
from datasets import load_dataset

data = load_dataset("PATH_OR_ID", split="{facts["split"]}")
clean = data.filter(lambda selected: selected, input_columns="{prefix}selected")
```

Made with label-curator {facts["versions"]["label-curator"]}; to make it again:

```
label-curator clean {reproduce({**settings, "dataset": named})}
```

`curation.json` holds every setting, `report/report.md` the findings with pictures, `issues.csv` the rows to look at.
"""


def as_given(column: str) -> str:
    """What the label column of a run holds."""
    return f"`{column}` holds the labels as they were given; these columns say what became of them:"


def as_published(column: str, policy: str) -> str:
    """What the label column of a version holds."""
    if policy == "annotate":
        return as_given(column)
    where = "; `original_label` holds those that were given" if policy == "relabel" else ""
    return f"`{column}` holds the curated labels{where}. These columns say how they came about:"


def published_card(run_card: str, facts: dict[str, Any], splits: list[str], content: str) -> str:
    """The card of a published version: the run's card with what the policy and the reviewers did."""
    from huggingface_hub import DatasetCard

    card, said = DatasetCard(run_card, ignore_metadata_errors=True), facts["published"]
    reviewed = bool(said["verified"] or said["dropped"])
    data: Any = card.data
    data.annotations_creators = ["machine-generated", *["expert-generated"] * reviewed]
    clean = "data" if said["policy"] == "filter" else "clean"  # other splits are the same in both
    data.configs = [
        {
            "config_name": name,
            "data_files": [{"split": s, "path": f"{own if s == facts['split'] else 'data'}/{s}-*"} for s in splits],
            "description": f"label-curator {content}",  # see dataset_card
        }
        for name, own in (("default", "data"), ("clean", clean))
        if name == "default" or said["clean"]  # a config without rows cannot be loaded
    ]
    sure = f", corrected where the nets are at least {said['min_confidence']:g} sure"
    reviewers = ", ".join(f"{md(name, 40)} {count:,}" for name, count in said["reviewers"].items())
    rows = [
        ("policy", said["policy"] + (sure if said["policy"] == "relabel" else "")),
        ("labels changed", f"{said['labels_changed']:,} of {said['rows']:,} rows"),
        ("rows of config clean", f"{said['clean']:,}"),
        ("verified", f"{said['verified']:,} labels, {said['dropped']:,} rows dropped"),
        ("rows decided by reviewers", reviewers or "none"),
    ]
    body, _, _ = card.text.strip().partition("\n## Use\n")
    body = body.replace(as_given(facts["label_column"]), as_published(facts["label_column"], said["policy"]))
    _, made, how = card.text.strip().partition("\nMade with label-curator ")
    return f"""---
{data.to_yaml().strip()}
---

{body.strip()}

## This version

| | |
|---|---|
{LINES.join(f"| {name} | {value} |" for name, value in rows)}

## Use

```python
from datasets import load_dataset

everything = load_dataset("PATH_OR_ID", split="{facts["split"]}")
clean = load_dataset("PATH_OR_ID", "clean", split="{facts["split"]}")
```
{made}{how}
"""


def reproduce(settings: dict[str, Any]) -> str:
    """Flags that give this result again, as one shell line."""
    words = []
    for name, value in settings.items():
        head, dot, last = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{head}{dot}{'' if value else 'no-'}{last}")
        elif value not in (None, ""):
            words.append(f"--{head}{dot}{last} {shlex.quote(str(value))}")
    return " ".join(words).replace("\n", " ")
