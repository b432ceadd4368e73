"""What curation.json says of a run: settings, data, figures, versions, and the command that makes it again."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import torch

from curator.config.flags import PATH, as_words, flags_of
from curator.engine.hardware import device_name, peak_memory
from curator.engine.throughput import mfu
from curator.result.accuracy import summary
from curator.result.columns import Columns
from curator.result.facts import RANGES
from curator.result.metrics import metrics
from curator.sources.opening import NAMED
from curator.sources.table import Table
from curator.system import is_path
from curator.text import name_of, public_command

if TYPE_CHECKING:
    from curator.config.resolve import Resolved
    from curator.engine.run import Run
    from curator.sources.read import Reading


def facts_of_run(
    resolved: Resolved,
    table: Table,
    reading: Reading,
    run: Run,
    columns: Columns,
    history: list[dict[str, float]],
    test_accuracy: float | None,
) -> dict[str, Any]:
    """What curation.json holds."""
    data, encoders = reading.data, reading.encoders
    trusted = data.trusted.numpy()
    seconds = sum(entry["seconds"] for entry in history)
    facts: dict[str, Any] = {
        "method": resolved.settings.method,
        "recipe": resolved.recipe,
        "dataset": dataset_name(resolved, table),
        "name": table.name,
        "source": {name: value for name, value in table.source.items() if name != "text" and value},
        "split": table.split,
        "image_column": table.image_column,
        "text_column": table.text_column,
        "label_column": table.label_column,
        "reference_column": table.reference_column,
        "n": len(data),
        "classes": len(table.classes),
        "settings": {**without_places(resolved.describe()), "dataset": dataset_name(resolved, table)},
        "command": command(resolved, table, encoders),
        "seed": resolved.settings.seed,
        "trusted": {
            "count": int(trusted.sum()),
            "relabelled": int((table.learned != table.labels).sum()),
            "hash": table.verified_digest(),
        },
        "estimated_noise_rate": float((~columns.selected).mean()),
        "selected": int(columns.selected.sum()),
        "changed": int((columns.corrected != table.labels).sum()),
        "ambiguous": None if columns.ambiguous is None else int(columns.ambiguous.sum()),
        "seconds": round(seconds, 1),
        "epochs": len(history),
        "images_per_second": round(sum(entry["images"] for entry in history) / seconds, 1) if seconds else None,
        "mfu": mfu(run, run.views.shape(data.inputs.shape)),
        "peak_memory": peak_memory(run.device),
        "device": device_name(run.device),
        "threads": run.threads,
        "versions": versions(),
        "source_fingerprint": table.digest,
        "findings": run.findings,
    }
    if spans := table.access.decoder.spans:
        facts[RANGES] = {kind: [low, high] for kind, (low, high) in spans.items()}
    if encoders:
        facts["encoders"] = encoders
    if table.truth is not None:
        facts["metrics"] = metrics(columns, table.labels, table.truth, trusted)
        truth = reading.present.inside(torch.from_numpy(table.truth))
        if stages := resolved.method.stages(data, run, truth):
            facts["stages"] = stages
    if accuracy := summary(history):
        facts["accuracy"] = accuracy
    if test_accuracy is not None:
        facts.setdefault("metrics", {})["test_accuracy"] = test_accuracy
    return facts


def command(resolved: Resolved, table: Table, encoders: list[dict[str, Any]]) -> str:
    """The shell line that gives this result again; of files and folders it has the names alone.

    Models of the Hub are named at the commit that was read.
    """
    again = {**without_places(resolved.again()), "dataset": dataset_name(resolved, table)}
    if any("revision" in found for found in encoders):
        again["backbone"] = "+".join(found["given"] for found in encoders)
    return " ".join(f"{public_command('clean')} {shlex.join(as_words(again))}".split("\n"))


def dataset_name(resolved: Resolved, table: Table) -> str:
    """The named dataset, the Hub id, or the name of the folder."""
    named = resolved.settings.dataset in NAMED
    return resolved.settings.dataset if named else table.source.get("id") or table.name


def without_places(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the names alone of files and folders of this machine: results are published, and say so of it."""
    paths = flags_of(PATH)

    def named(key: str, value: Any) -> Any:
        if key.rpartition(".")[2] not in paths or not isinstance(value, str) or not is_path(value):
            return value
        return name_of(value)

    return {key: named(key, value) for key, value in settings.items()}


def versions() -> dict[str, str]:
    """Versions of what decides the result."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for name in (
        "label-curator",
        "torch",
        "torchvision",
        "datasets",
        "accelerate",
        "numpy",
        "scikit-learn",
        "cleanlab",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
