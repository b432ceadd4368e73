"""What tests of the journal save."""

FACTS = {"classes": ["cat", "dog", "=2+2"], "dataset": "pets", "split": "train"}


def do(key, *rows):
    return {"key": key, "kind": "do", "rows": list(rows)}


def turn(key, kind):
    return {"key": key, "kind": kind}


def labels(journal, reviewer="ann"):
    found = {row: d for row in set(journal.log(0)) if (d := journal.decision(row, reviewer))}
    return {row: (d.action, d.label) for row, d in found.items()}
