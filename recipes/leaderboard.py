"""
Train many models under one protocol and put them in one table: `leaderboard.md`, `.json` and `.png`.

    # Every architecture at 40 to 64 pixels, under one equal budget of multiply-adds
    python recipes/leaderboard.py --data_dir DIR
    # The sources' own settings; what it would take first
    python recipes/leaderboard.py --data_dir DIR --budget gpu --dry_run

The rows and their flags stand in `recipes/leaderboard/<budget>.yaml`. Each row is a run of its own recipe, in a folder
of its own under `--output_dir`: started again, a leaderboard goes on with the run that was interrupted, from its last
checkpoint if it writes any, and finished runs are not run again. Whatever is selected is selected on validation, and
test is scored once for each run.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path

import yaml

from fer_hf.cli.launch import run
from fer_hf.errors import BadInputError
from fer_hf.files import write_json
from fer_hf.models import describe
from fer_hf.provenance import public_words
from fer_hf.runs.leaderboard import draw_leaderboard, leaderboard_page, leaderboard_table, read_record, summarise


HERE = Path(__file__).parent
BUDGETS = sorted(path.stem for path in (HERE / "leaderboard").glob("*.yaml"))
# A backward pass costs about two forward ones.
PASSES_PER_STEP = 3
ACCELERATE = (sys.executable, "-m", "accelerate.commands.accelerate_cli")
TRAINING_FACES = 28_709  # of FER-2013
# Flags that leave a run's result as it is.
NO_MATTER = ("--output_dir", "--data_dir", "--resume_from_checkpoint", "--disable_tqdm", "--cpu_threads")


def main() -> None:
    args = parse()
    plan = yaml.safe_load((HERE / "leaderboard" / f"{args.budget}.yaml").read_text(encoding="utf-8"))
    chosen = args.only or list(plan["rows"])
    for name in chosen:
        if name not in plan["rows"]:
            raise BadInputError(
                f"`only` must be rows of {args.budget}.yaml ({', '.join(plan['rows'])}), got {name!r}."
            )
    if args.dry_run:
        for name in chosen:
            row = planned(plan["rows"][name], plan, args.num_processes)
            print(f"{name}: {shlex.join(command(name, row, args, args.seeds[0]))}\n    {row['forecast']}")
        return
    if args.data_dir is None:
        raise BadInputError("`data_dir` is missing: the folder of FER-2013.")
    folder, results, failed = Path(args.output_dir), [], []
    for number, name in enumerate(plan["rows"], start=1):
        row = planned(plan["rows"][name], plan, args.num_processes)
        # Of rows that were not asked for, what is finished stays in the table.
        seeds = args.seeds if name in chosen else seeds_in(folder / name)
        runs = {folder / name / f"seed-{seed}": command(name, row, args, seed) for seed in seeds}
        try:
            if name in chosen:
                train(f"[{number}/{len(plan['rows'])}] {name}", row["forecast"], runs)
            elif not runs or not all(finished(*run) for run in runs.items()):
                continue
            results.append({**summarise(name, row["published"], list(runs)), "multiply_adds": row["multiply_adds"]})
        except BadInputError as error:
            if name in chosen:
                failed.append(f"{name}: {error}")
            else:
                print(f"{name} is left out of the table: {error}", flush=True)
            continue
        write(folder, args.budget, plan, results)  # after each row: what is known so far can be looked at
        if args.records_dir is not None:
            keep(folder, Path(args.records_dir, args.budget), runs)
    if results:
        print(f"\n{leaderboard_table(results)}\n\nTable, picture and all figures are in {folder}.")
    if failed:
        raise BadInputError(f"Rows without a figure: {'; '.join(failed)}")


def train(title: str, forecast: str, runs: dict[Path, list[str]]) -> None:
    """
    Run those of a row's runs that are not finished.

    Raises:
        BadInputError: If one of them leaves no record.
    """
    for run_dir, words in runs.items():
        if finished(run_dir, words):
            print(f"{title}: finished before: {run_dir}", flush=True)
        else:
            print(f"{title}: {forecast}; {run_dir}", flush=True)
            subprocess.run([*ACCELERATE, *words[1:]], check=False)
    if not all(finished(*run) for run in runs.items()):
        raise BadInputError("a run did not finish: see above what it said")


def seeds_in(folder: Path) -> list[int]:
    """The seeds of a row's runs in its folder, finished or not."""
    return sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*"))


def write(folder: Path, budget: str, plan: dict, results: list[dict]) -> None:
    """The rows known so far as `leaderboard.json`, `.md` and `.png`."""
    write_json(folder / "leaderboard.json", {"budget": budget, "plan": plan, "rows": results})
    page = leaderboard_page(plan["title"], plan["about"], results)
    (folder / "leaderboard.md").write_text(page, encoding="utf-8")
    draw_leaderboard(results, folder / "leaderboard.png", plan["title"])


def parse() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data_dir", help="folder with FER-2013's own files")
    parser.add_argument("--budget", default="cpu", choices=BUDGETS, help="which list of rows")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows only")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="one run of each row for every seed")
    parser.add_argument("--output_dir", default="runs/leaderboard", help="folder for the runs and the table")
    parser.add_argument("--records_dir", help="also keep the table and the runs' records here, in a folder <budget>")
    parser.add_argument("--num_processes", type=int, default=1, help="processes of each run (GPUs)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and what they cost")
    parser.add_argument("--disable_tqdm", action=BooleanOptionalAction, default=False, help="show no progress bars")
    parser.add_argument("--flags", default="", help="further flags for every run: --flags='--use_cpu'")
    return parser.parse_args()


def planned(row: dict, plan: dict, processes: int = 1) -> dict:
    """A row with what its run is given, what it costs, and what was published."""
    row = dict(row)
    recipe, config = row.pop("recipe"), row.pop("config", None)
    source = row.pop("published_in", config)
    values = {} if config is None else yaml.safe_load((HERE / "configs" / config).read_text(encoding="utf-8"))
    flags = {**plan.get("flags", {}), **row}
    merged = {**values, **flags}
    cost = None
    if "architecture" in merged:
        cost = describe(merged["architecture"], **(merged.get("config_overrides") or {}))["multiply_adds"]
    batch = merged["per_device_train_batch_size"] * processes
    if "multiply_adds" in plan:
        steps = max(1, round(plan["multiply_adds"] / (PASSES_PER_STEP * cost * batch)))
        length, faces = f"{steps:,} steps", steps * batch
        # Validation is scored at the end, with test: looks on the way would cost dear networks more than training.
        flags |= {"max_steps": steps, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    else:
        epochs = merged["num_train_epochs"]
        length, faces = (
            f"{epochs} epochs",
            epochs * min(TRAINING_FACES, merged.get("max_train_samples", TRAINING_FACES)),
        )
    forecast = f"{length}, {faces:,} faces"
    # Small faces, or some of the patches, cost less than what a whole face of the model's own size does.
    if cost is not None and not merged.keys() & {"progressive_resizing", "patch_dropout"}:
        forecast += f" at {cost / 1e6:,.1f} M multiply-adds: {PASSES_PER_STEP * cost * faces:.1e} in all"
    return {
        "recipe": recipe, "config": config, "flags": flags, "multiply_adds": cost, "forecast": forecast,
        "published": _published(HERE / "configs" / source) if source else "",
    }  # fmt: skip


def _published(config: Path) -> str:
    """The sentence of the file's header that says what was published."""
    words = " ".join(line.removeprefix("#").strip() for line in config.read_text().splitlines() if line[:1] == "#")
    found = re.search(r"Published:? (.*?)\.(?= [A-Z\"`]|$)", words)
    return found[1] if found else ""


def command(name: str, row: dict, args: Namespace, seed: int) -> list[str]:
    """What to run for one row and seed."""
    words = ["accelerate", "launch", "--num_processes", str(args.num_processes)]
    words += ["--multi_gpu"] if args.num_processes > 1 else []
    here = Path(os.path.relpath(HERE))
    words += [str(here / f"{row['recipe']}.py")]
    words += ["--config", str(here / "configs" / row["config"])] if row["config"] else []
    for flag, value in row["flags"].items():
        words += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    words += ["--seed", str(seed), "--output_dir", str(Path(args.output_dir, name, f"seed-{seed}"))]
    words += ["--data_dir", args.data_dir] if args.data_dir else []
    words += ["--resume_from_checkpoint", "true"]
    return [*words, *shlex.split(args.flags), *(["--disable_tqdm", "true"] if args.disable_tqdm else [])]


def keep(folder: Path, records: Path, runs: dict[Path, list[str]]) -> None:
    """Copy the table as it is, and the records of these runs: all that stays of those whose weights are not kept."""
    for run_dir in runs:
        place = records / run_dir.relative_to(folder)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(run_dir / "run_record.json", place)
    for kind in ("md", "json", "png"):
        shutil.copy(folder / f"leaderboard.{kind}", records)


def finished(run_dir: Path, words: list[str]) -> bool:
    """
    Whether the folder holds what these words lead to: the record is the last that a run writes.

    Raises:
        BadInputError: If it holds a run of another command, which must not pass for this one.
    """
    path = run_dir / "run_record.json"
    if not path.is_file():
        return False
    record, asked = read_record(run_dir), int(words[words.index("--num_processes") + 1])
    there, processes = record["command"], record["hardware"]["processes"]
    if _essence(shlex.split(there)) != _essence(public_words(words)):
        raise BadInputError(f"{run_dir} holds a run of another command ({there}); delete it or choose `output_dir`.")
    if processes != asked:
        raise BadInputError(f"{run_dir} holds a run on {processes} process(es), not {asked}; choose `output_dir`.")
    return True


def _essence(words: list[str]) -> list[str]:
    """The recipe and those of its flags that change a run's result; the last of equal flags counts."""
    recipe = next(i for i, word in enumerate(words) if word.endswith(".py"))
    flags: dict[str, list[str]] = {}
    for word in words[recipe + 1 :]:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            flags.pop(name, None)
            flags[name] = [value] if value else []
        else:
            flags[name].append(word)
    kept = sorted((name, *values) for name, values in flags.items() if name not in NO_MATTER)
    return [Path(words[recipe]).name, *kept]


if __name__ == "__main__":
    run(main)
