"""A run directory as one object: whoever shows, compares or publishes a run reads its files through it."""

import os
from functools import cached_property
from pathlib import Path

from fer_hf.errors import no_such_path
from fer_hf.evaluation.predictions import FILE, Predictions, load_predictions
from fer_hf.runs.pictures import PICTURES
from fer_hf.runs.record import RECORD, RunRecord, read_json
from fer_hf.runs.shapes import Config, Evaluation, RunDirectoryError, TrainerState, check_shape
from fer_hf.scores import with_new_names


class Run:
    """
    The output directory of a run. Each file is read when it is first asked for, and once.

    Args:
        folder (`str` or `Path`): The directory.

    Raises:
        RunDirectoryError: If `folder` is no directory; and from each property whose file is missing or malformed.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            state = f"{self.folder} is not a directory." if self.folder.exists() else no_such_path(self.folder)
            raise RunDirectoryError(f"No run: {state}")

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.folder.resolve().name

    @cached_property
    def record(self) -> RunRecord:
        """`run_record.json`."""
        return RunRecord.read(self.folder / RECORD)

    @cached_property
    def config(self) -> dict:
        """`config.json`, the model's configuration."""
        config = self._read("config.json", Config)
        if wrong := [key for key in config.get("id2label", {}) if not key.isdecimal()]:
            raise RunDirectoryError(
                f"{self.folder / 'config.json'}: `id2label` must number its labels, got {wrong[0]!r:.60}."
            )
        return config

    @cached_property
    def processor(self) -> dict:
        """`preprocessor_config.json`, what is done to an image first."""
        return read_json(self.folder / "preprocessor_config.json")

    @cached_property
    def log_history(self) -> list[dict] | None:
        """The log in `trainer_state.json`; `None` if there is no such file."""
        name = "trainer_state.json"
        if not (self.folder / name).is_file():
            return None
        return with_new_names(self._read(name, TrainerState))["log_history"]

    def _read(self, name: str, kind: type) -> dict:
        content = read_json(self.folder / name)
        check_shape(content, kind, self.folder / name)
        return content

    @cached_property
    def predictions(self) -> dict[str, Predictions]:
        """By split, from `predictions.safetensors`; raises `BadInputError` if there is no such file."""
        return load_predictions(self.folder)

    @property
    def has_predictions(self) -> bool:
        return (self.folder / FILE).is_file()

    @cached_property
    def evaluations(self) -> list[dict]:
        """What `fer-hf evaluate` left in `evaluation/*.json`, by file name."""
        found = []
        for path in sorted(self.folder.glob("evaluation/*.json")):
            item = with_new_names(read_json(path))
            check_shape(item, Evaluation, path)
            found.append({"tta": "none", **item})
        return found

    @property
    def pictures(self) -> list[str]:
        """Those of [`PICTURES`] that lie in the directory."""
        return [name for name in PICTURES if (self.folder / name).is_file()]


def as_run(run: str | Path | Run) -> Run:
    """The run itself, or the run in that directory."""
    return run if isinstance(run, Run) else Run(run)
