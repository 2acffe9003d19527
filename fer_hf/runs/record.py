"""`run_record.json`: everything that is known about a run, written once, from which cards and tables are filled."""

from datetime import UTC, datetime

from datasets import DatasetDict

from fer_hf.data import content_fingerprint


def describe_dataset(name: str, faces: DatasetDict) -> dict:
    """Name, content fingerprint of every split, and faces by split and class."""
    counts = {}
    for split, table in faces.items():
        names = table.features["label"].names
        labels = table["label"][:]
        counts[split] = {expression: labels.count(i) for i, expression in enumerate(names)}
    return {
        "name": name,
        "fingerprints": {split: content_fingerprint(table) for split, table in faces.items()},
        "counts": counts,
    }


def scoring(dataset: str, split: str, fingerprint: str, tta: str) -> dict:
    """One entry of a record's `test_scored`: that these faces were scored, now."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"dataset": dataset, "split": split, "fingerprint": fingerprint, "date": date, "tta": tta}
