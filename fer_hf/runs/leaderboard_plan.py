"""The runs of a leaderboard: what each is given and costs, the command that makes it, and whether it is finished."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from fer_hf.errors import BadInputError, ModelError
from fer_hf.models import describe
from fer_hf.models.zoo import DACL_LOSSES, architecture_config, dacl_mode
from fer_hf.provenance import public_words
from fer_hf.runs.record import RECORD, RunRecord
from fer_hf.words import plural


# A backward pass costs about two forward ones.
PASSES_PER_STEP = 3
TRAINING_FACES = {"fer2013": 28_709, "rafdb": 11_044}  # of RAF-DB without the tenth that validates
# Flags that leave a run's result as it is.
_NO_MATTER = (
    "--output_dir", "--data_dir", "--resume_from_checkpoint", "--disable_tqdm", "--cpu_threads",
    "--dataloader_num_workers", "--dataloader_persistent_workers", "--dataloader_prefetch_factor",
    "--dataloader_pin_memory",
)  # fmt: skip
# Recipes of the same steps as `train`: the commands of older runs name them.
_SAME_AS_TRAIN = ("vit_gradual_unfreeze", "vit_finetune", "vit_from_scratch", "cnn_baselines", "dacl", "transfer")


def shrunk(plan: dict, scale: int | None, epochs: int | None, flags: Sequence[str]) -> dict:
    """
    A plan of smaller runs than its own, whose title says so.

    Args:
        plan (`dict`): Of a leaderboard.
        scale (`int`, *optional*): No network sees faces of more pixels than this.
        epochs (`int`, *optional*): Of every run.
        flags (`Sequence[str]`): Words that go to every run.

    Raises:
        BadInputError: If `flags` begin with something else, or `epochs` are given to a budget of multiply-adds.
    """
    if flags and not flags[0].startswith("--"):
        raise BadInputError(f"`flags` must be flags of the recipe, such as '--use_cpu', got {' '.join(flags)!r}.")
    if epochs and "multiply_adds" in plan:
        raise BadInputError(f"`epochs` {epochs} does not go with this budget: its multiply-adds set the steps.")
    changes = [f"faces of {scale} pixels at most"] if scale else []
    changes += [f"{epochs} epoch" + "s" * (epochs > 1)] if epochs else []
    changes += [" ".join(flag) for flag in _essence(["any.py", *flags])[1:] if flag[0] not in ("--use_cpu", "--seed")]
    title = plan["title"] + (f" ({', '.join(changes)})" if changes else "")
    return {**plan, "title": title, "scale": scale, "epochs": epochs}


def planned_row(row: dict, plan: dict, configs: Path, processes: int = 1) -> dict:
    """
    A row with what its runs are given, what they cost, and what was published.

    Args:
        row (`dict`): Its flags; besides, as far as it has them, `recipe` (by default `train`), `config`,
            `published_in`, the configuration whose header quotes what was published, or `printed`, a line of the
            source's own table, and `note`.
        plan (`dict`): Of the leaderboard: `flags` of all rows, and `multiply_adds`, the budget of a run, if they share
            one; or from [`shrunk`].
        configs (`Path`): Folder of the configurations.
        processes (`int`, defaults to 1): Processes of each run.

    Returns:
        `dict`: `recipe`, `config`, `flags`, `multiply_adds` (of one face; `None` for a checkpoint), `forecast` (in
        words), `refused`, whether it cannot be run at that `scale`, `published`, `printed` and `notes`.
    """
    row = dict(row)
    recipe, config, printed = row.pop("recipe", "train"), row.pop("config", None), row.pop("printed", {})
    source, notes = row.pop("published_in", config), [row.pop("note")] if "note" in row else []
    values = {} if config is None else yaml.safe_load((configs / config).read_text(encoding="utf-8"))
    flags = {**plan.get("flags", {}), **row}
    about = {"published": _published(configs / source) if source else "", "printed": printed, "notes": notes}
    about |= {"recipe": recipe, "config": config}
    try:
        flags |= _scaled({**values, **flags}, plan.get("scale"))
        cost = _multiply_adds({**values, **flags})
    except (ModelError, RuntimeError) as error:  # torch refuses what the configuration lets pass
        notes.append(f"not run: {error}")
        return {**about, "flags": flags, "multiply_adds": None, "forecast": notes[-1], "refused": True}
    if plan.get("epochs"):
        flags["num_train_epochs"] = plan["epochs"]
    merged = {**values, **flags}
    if "multiply_adds" in plan:
        batch = merged["per_device_train_batch_size"] * processes
        steps = max(1, round(plan["multiply_adds"] / (PASSES_PER_STEP * cost * batch)))
        length, num_faces = plural(steps, "step"), steps * batch
        # Validation is scored at the end, with test: looks on the way would cost dear networks more than training.
        flags |= {"max_steps": steps, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    else:
        epochs, faces = merged["num_train_epochs"], TRAINING_FACES[merged["dataset_name"]]
        length = plural(epochs, "epoch")
        num_faces = epochs * min(faces, merged.get("max_train_samples", faces))
    # Small faces, or some of the patches, cost less than what a whole face of the model's own size does.
    known = cost is not None and not merged.keys() & {"progressive_resizing", "patch_dropout"}
    total = f" at {cost / 1e6:,.1f} M multiply-adds: {PASSES_PER_STEP * cost * num_faces:.1e} in all" if known else ""
    forecast = f"{length}, {plural(num_faces, 'face')}{total}"
    return {**about, "flags": flags, "multiply_adds": cost, "forecast": forecast, "refused": False}


def _scaled(flags: dict, scale: int | None) -> dict:
    """
    The flags that keep a network's faces to `scale` pixels.

    Raises:
        ModelError: If it is a checkpoint.
    """
    if scale is None:
        return {}
    if "architecture" not in flags:
        raise ModelError(f"{flags['model_name_or_path']} takes faces of its own size alone")
    overrides = flags.get("config_overrides") or {}
    if architecture_config(flags["architecture"], **overrides).image_size <= scale:
        return {}
    return {"config_overrides": {**overrides, "image_size": scale}}


def _multiply_adds(flags: dict) -> int | None:
    """What one face costs; `None` for a checkpoint."""
    if "architecture" not in flags:
        return None
    overrides = dict(flags.get("config_overrides") or {})
    # The loss decides whether a DACL model has an attention network.
    if "loss" in flags and architecture_config(flags["architecture"]).model_type == "dacl":
        overrides["mode"] = dacl_mode(flags["loss"])
    return describe(flags["architecture"], **overrides)["multiply_adds"]


def _published(config: Path) -> str:
    """The sentence of a configuration's header that says what was published."""
    lines = config.read_text(encoding="utf-8").splitlines()
    words = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    found = re.search(r"Published:? (.*?)\.(?= [A-Z\"`]|$)", words)
    return found[1] if found else ""


def is_finished(run_dir: Path, words: list[str]) -> bool:
    """
    Whether a folder holds the run that a command makes: the record is the last that a run writes.

    Args:
        run_dir (`Path`): The folder.
        words (`list[str]`): The command, by `accelerate launch --num_processes N`.

    Raises:
        BadInputError: If it holds a run of another command, which must not pass for this one.
    """
    if not (run_dir / RECORD).is_file():
        return False
    record, asked = RunRecord.read(run_dir / RECORD), int(words[words.index("--num_processes") + 1])
    processes = record.hardware["processes"]
    if _essence(shlex.split(record.command)) != _essence(public_words(words)):
        raise BadInputError(
            f"{run_dir} holds a run of another command ({record.command}); delete it or choose `output_dir`."
        )
    if processes != asked:
        raise BadInputError(
            f"{run_dir} holds a run on {plural(processes, 'process', 'es')}, not {asked}; choose `output_dir`."
        )
    return True


def _essence(words: list[str]) -> list:
    """The recipe and those of its flags that change a run's result; the last of equal flags counts."""
    place = next(i for i, word in enumerate(words) if word.endswith(".py"))
    recipe = Path(words[place]).stem
    flags: dict[str, list[str]] = {}
    for word in words[place + 1 :]:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            flags.pop(name, None)
            flags[name] = [value] if value else []
        else:
            flags[name].append(word)
    flags.setdefault("--seed", ["0"])  # that of every configuration
    # Older commands chose the loss of a DACL model by the mode of its configuration.
    overrides = json.loads("".join(flags.pop("--config_overrides", ["{}"])))
    if mode := overrides.pop("mode", None):
        flags["--loss"] = [DACL_LOSSES[mode]]
    flags |= {"--config_overrides": [json.dumps(overrides)]} if overrides else {}
    return [
        "train" if recipe in _SAME_AS_TRAIN else recipe,
        *sorted((name, *values) for name, values in flags.items() if name not in _NO_MATTER),
    ]
