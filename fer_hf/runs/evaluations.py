"""Keeping an evaluation: the file, the temperature, and the note in the run's record that test was scored."""

import re
from pathlib import Path

from fer_hf.errors import BadInputError
from fer_hf.files import check_output, in_package, write_json
from fer_hf.models.loading import TEMPERATURE_KEY
from fer_hf.runs.record import RECORD, RunRecord, read_json, scoring


def check_place(
    model: str, output: str | Path | None = None, calibrate: bool = False, overwrite: bool = False
) -> None:
    """
    Refuse, before any work, what [`save_evaluation`] could not write.

    Raises:
        BadInputError: As [`~fer_hf.files.check_output`], or if a temperature is to be kept by a model that is no
            folder of the user's.
    """
    if output is not None:
        check_output("output", output, overwrite, [model])
    folder = Path(model).expanduser()
    if calibrate and (in_package(folder) or not (folder / "config.json").is_file()):
        raise BadInputError(
            f"`calibrate` keeps the temperature in the model's folder, and {model!r} is none of yours."
        )


def limits_of_run(model: str, dataset: str) -> dict[str, int]:
    """
    What a run took of its own data: the arguments of [`~fer_hf.data.select.sample_splits`] that give the same faces.
    Empty for other data, and for a model that is no run.
    """
    folder = Path(model).expanduser()
    record = RunRecord.read(folder / RECORD) if (folder / RECORD).is_file() else None
    if record is None or record.dataset["name"] != dataset:
        return {}
    limits = {kind: record.training.get(f"max_{kind}_samples") for kind in ("train", "eval")}
    return {f"max_{kind}": limit for kind, limit in limits.items() if limit is not None}


def save_evaluation(result: dict, model: str, output: str | Path | None = None) -> tuple[Path | None, list[dict]]:
    """
    Write an evaluation, and note in the run's record that a test split was scored.

    Args:
        result (`dict`): From [`evaluate`].
        model (`str`): As for [`evaluate`]. In the folder of a finished run, the temperature of a calibration goes into
            `config.json`, `test_scored` into `run_record.json`, and the evaluation into
            `evaluation/<dataset>-<split>[-<tta>][-sample].json`.
        output (`str` or `Path`, *optional*): A file for the evaluation instead.

    Returns:
        `tuple`: The file, `None` if there is no place for one; and the earlier scorings of the same test faces by this
        checkpoint, oldest first.
    """
    folder = Path(model).expanduser()
    if "fitted_on" in result.get("calibration", {}):
        config = folder / "config.json"
        write_json(config, {**read_json(config), TEMPERATURE_KEY: result["calibration"]["temperature"]})
    is_run = (folder / RECORD).is_file() and not in_package(folder)  # what ships stays as it is
    earlier = _note_scoring(folder / RECORD, result) if is_run else []
    path = None
    if output is not None:
        path = Path(output)
    elif is_run:
        words = [result["dataset"], result["split"], *([result["tta"]] * (result["tta"] != "none"))]
        words += ["sample"] * ("max_eval_samples" in result["report"])  # never over an evaluation of all faces
        path = folder / "evaluation" / (re.sub(r"[^\w.+-]", "_", "-".join(words)) + ".json")
    if path is not None:
        write_json(path, result)
    return path, earlier


def _note_scoring(path: Path, result: dict) -> list[dict]:
    """
    Add an entry to the record's `test_scored` if test was scored. Nothing else in the file changes, old and unknown
    keys included.

    Returns:
        `list[dict]`: The entries that were there for the same faces.
    """
    if "test" not in result["split"].split("+"):
        return []
    record = RunRecord.read(path)
    entries = _first_scoring(record) if record.test_scored is None else record.test_scored
    fingerprint = result.get("parts", {}).get("test", result)["fingerprint"]
    entry = scoring(result["dataset"], "test", fingerprint, result["tta"])
    write_json(path, {**read_json(path), "test_scored": [*entries, entry]})
    return [old for old in entries if old["fingerprint"] == fingerprint]


def _first_scoring(record: RunRecord) -> list[dict]:
    """What a run that was finished before there was a `test_scored` would have there."""
    if "test" not in record.results:
        return []
    entry = scoring(record.dataset["name"], "test", record.dataset["fingerprints"]["test"], "none")
    return [{**entry, "date": record.date}]
