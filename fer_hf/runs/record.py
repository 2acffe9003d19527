"""`run_record.json`: everything that is known about a run, written once, from which cards and tables are filled."""

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from datasets import DatasetDict

from fer_hf.data import content_fingerprint
from fer_hf.evaluation.report import of_sample
from fer_hf.files import write_json
from fer_hf.models.zoo import DACL_LOSSES
from fer_hf.runs.shapes import (
    Best,
    DatasetFacts,
    ModelFacts,
    Part,
    Report,
    RunDirectoryError,
    Runtime,
    Scoring,
    Unfreezing,
    check_shape,
)
from fer_hf.scores import with_new_names


RECORD = "run_record.json"

# The mode of a DACL model once chose its loss, and these names its mode; now `loss` alone does.
_MODE_OF_NAME = {"dacl-softmax": "softmax", "dacl-center": "center"}


@dataclass
class RunRecord:
    """
    What `run_record.json` holds. A folder without one holds no finished run.

    Args:
        fer_hf_version, date, commit, versions, hardware:
            What ran, when and on what: [`~fer_hf.provenance.environment`].
        command (`str`): How the run was started, with `DIR` for folders elsewhere. It holds at `commit`.
        seed (`int`): The run's.
        dataset (`dict`): [`describe_dataset`]: `name`, `fingerprints` of the splits, `counts` by split and class.
        model (`dict`):
            `architecture`, `parameters`, and how the model began: `source` (`scratch`, `shipped`, `local` or `hub`)
            with what belongs to it, or the settings of a masked autoencoder.
        training (`dict`): The flags that shape the result.
        runtime (`dict`): `train_seconds`, `steps`, and of a resumed run `resumed_at_step` and `commits`.
        results (`dict`):
            A report ([`~fer_hf.evaluation.report.expression_report`]) for each split that was scored, `validation`,
            `test` or both as the data set has them; or of a backbone the `loss` and `epoch` on `validation`. In
            float32; until 2026-11-27 as it was trained, in bfloat16 where `training` has `bf16`.
        unfreezing (`list[dict]`): From which `epoch` on what was trained; empty if all was, from the start.
        phases (`list[dict]`): Time, waiting and memory by phase of unfreezing.
        validations (`list[dict]`): Each validation during training, with `elapsed_seconds`.
        best (`dict`, *optional*): `metric`, `value`, `epoch` and `step` of the selected weights.
        last_epoch (`dict`, *optional*): If asked for, the weights after the last epoch, nothing selected: `epoch`,
            and the `report` of all faces of the `splits` together.
        test_scored (`list[dict]`, *optional*): An entry for each time that a test split was scored. `None` in records
            of older runs, which did not count; empty if nothing was tested.
    """

    fer_hf_version: str
    date: str
    commit: str | None
    versions: dict[str, str]
    hardware: dict
    command: str
    seed: int
    dataset: DatasetFacts
    model: ModelFacts
    training: dict
    runtime: Runtime
    results: dict[str, Report]
    unfreezing: list[Unfreezing] = field(default_factory=list)
    phases: list[dict] = field(default_factory=list)
    validations: list[dict] = field(default_factory=list)
    best: Best | None = None
    last_epoch: Part | None = None
    test_scored: list[Scoring] | None = None

    @classmethod
    def read(cls, path: str | Path) -> "RunRecord":
        """
        Read a record, an older one under the names of today. The file is left as it is, and keys that are not known
        here are not read.

        Raises:
            RunDirectoryError: If the file is missing or no JSON, or a key is missing or of another kind.
        """
        path = Path(path)
        content = with_new_names(read_json(path))
        check_shape(content, cls, path)
        if not content["results"]:
            raise RunDirectoryError(f"{path} holds no results: is it the record of a finished run?")
        values = {entry.name: content[entry.name] for entry in dataclasses.fields(cls) if entry.name in content}
        limit = values["training"].get("max_eval_samples")
        values["results"] = {
            split: of_sample(report, report.get("num_faces", 0), limit) for split, report in values["results"].items()
        }
        return cls(**_with_loss_for_mode(values))

    def write(self, path: str | Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_json(path, dataclasses.asdict(self))

    @property
    def tested(self) -> bool:
        """Whether the run was scored on a test split of its own data."""
        return "test" in self.results

    @property
    def last_split(self) -> str:
        """The split that cards and pages show in detail: `test`, or the first that was scored."""
        return "test" if self.tested else next(iter(self.results))


def _with_loss_for_mode(values: dict) -> dict:
    """Let `training.loss` say what a DACL model was trained with, where the model's `mode` said it."""
    model, overrides = values["model"], values["model"].get("config_overrides")
    # A masked autoencoder's are kept as they were typed, which may be JSON.
    given = overrides.get("mode") if isinstance(overrides, dict) else None
    mode = given or _MODE_OF_NAME.get(model["architecture"])
    if mode not in DACL_LOSSES:
        return values
    model = {name: value for name, value in model.items() if name != "config_overrides"}
    if others := {name: value for name, value in (overrides or {}).items() if name != "mode"}:
        model["config_overrides"] = others
    return {**values, "model": model, "training": {**values["training"], "loss": DACL_LOSSES[mode]}}


def read_json(path: str | Path) -> dict:
    """
    The content of a JSON file of a run, as it stands there.

    Raises:
        RunDirectoryError: If the file is missing or cannot be read, or holds no map.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirectoryError(f"{path.parent} holds no {path.name}: is it the output directory of a run?") from None
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path} must hold a map, and holds a {type(content).__name__}.")
    return content


def describe_dataset(name: str, tables: DatasetDict) -> dict:
    """
    What a record says of a data set.

    Args:
        name (`str`): The data set's name.
        tables (`DatasetDict`): Its splits, each with a column `label`.

    Returns:
        `dict`: `name`, `fingerprints` (of each split's content) and `counts` (of faces by split and expression).
    """
    counts = {}
    for split, table in tables.items():
        labels = table["label"][:]
        counts[split] = {label: labels.count(i) for i, label in enumerate(table.features["label"].names)}
    fingerprints = {split: content_fingerprint(table) for split, table in tables.items()}
    return {"name": name, "fingerprints": fingerprints, "counts": counts}


def scoring(dataset: str, split: str, fingerprint: str, tta: str) -> dict:
    """An entry of [`RunRecord.test_scored`]: these faces were scored now."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"dataset": dataset, "split": split, "fingerprint": fingerprint, "date": date, "tta": tta}
