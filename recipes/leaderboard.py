"""
Train many models under one protocol and put them in one table: `leaderboard.md`, `.json` and `.png`.

    # Every architecture at 48 to 64 pixels, under one equal budget of multiply-adds
    python recipes/leaderboard.py --data_dir DIR
    # The sources' own settings; what it would take first
    python recipes/leaderboard.py --data_dir DIR --budget gpu --dry_run

The rows and their flags stand in `recipes/leaderboard/<budget>.yaml`. Each row is a run of its own recipe, in a folder
of its own under `--output_dir`: started again, a leaderboard goes on with the run that was interrupted, and finished
runs are not run again. Epochs are selected on validation, and test is scored once for each run.
"""

import json
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path

import yaml

from fer_hf.errors import BadInputError
from fer_hf.evaluation.leaderboard import leaderboard_page, leaderboard_table, plot_leaderboard, summarise
from fer_hf.evaluation.record import write_json
from fer_hf.models import describe
from fer_hf.training import run


HERE = Path(__file__).parent
BUDGETS = sorted(path.stem for path in (HERE / "leaderboard").glob("*.yaml"))
# A backward pass costs about two forward ones.
PASSES_PER_STEP = 3
TRAINING_FACES = 28_709  # of FER-2013


def main() -> None:
    args = parse()
    plan = yaml.safe_load((HERE / "leaderboard" / f"{args.budget}.yaml").read_text(encoding="utf-8"))
    rows = plan["rows"]
    for name in args.only or []:
        if name not in rows:
            raise BadInputError(f"`only` must be rows of {args.budget}.yaml ({', '.join(rows)}), got {name!r}.")
    rows = {name: planned(row, plan) for name, row in rows.items() if not args.only or name in args.only}
    if args.dry_run:
        for name, row in rows.items():
            print(f"{name}: {shlex.join(command(name, row, args, args.seeds[0]))}")
            print(f"    {row['forecast']}")
        return
    if args.data_dir is None:
        raise BadInputError("`data_dir` is missing: the folder of FER-2013.")
    folder, results, failed = Path(args.output_dir), [], []
    for number, (name, row) in enumerate(rows.items(), start=1):
        runs = [folder / name / f"seed-{seed}" for seed in args.seeds]
        for seed, run_dir in zip(args.seeds, runs, strict=True):
            print(f"[{number}/{len(rows)}] {name}, seed {seed}: {row['forecast']}", flush=True)
            train(command(name, row, args, seed), run_dir)
        if not all(map(finished, runs)):
            failed.append(name)
            continue
        summary = summarise(name, row["published"], runs)
        results.append({**summary, "multiply_adds": row["multiply_adds"], "faces_seen": row["faces_seen"]})
        # After each row: what is known so far can be looked at.
        write_json(folder / "leaderboard.json", {"budget": args.budget, "plan": plan, "rows": results})
        (folder / "leaderboard.md").write_text(leaderboard_page(plan["about"], results), encoding="utf-8")
        plot_leaderboard(results, folder / "leaderboard.png", plan["title"])
    if results:
        print(f"\n{leaderboard_table(results)}\n\nTable, picture and all figures are in {folder}.")
    if failed:
        raise BadInputError(f"Rows that did not finish (see above what they said): {', '.join(failed)}.")


def parse() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data_dir", help="folder with FER-2013's own files")
    parser.add_argument("--budget", default="cpu", choices=BUDGETS, help="which list of rows")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows only")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="one run of each row for every seed")
    parser.add_argument("--output_dir", default="runs/leaderboard", help="folder for the runs and the table")
    parser.add_argument("--num_processes", type=int, default=1, help="processes of each run (GPUs)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and what they cost")
    parser.add_argument("--disable_tqdm", action=BooleanOptionalAction, default=False, help="show no progress bars")
    parser.add_argument("--flags", default="", help='further flags for every run, such as "--cpu_threads 2"')
    return parser.parse_args()


def planned(row: dict, plan: dict) -> dict:
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
    batch = merged["per_device_train_batch_size"]
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
    # Small faces in the early epochs cost less than what one face of the model's own size does.
    if cost is not None and "progressive_resizing" not in merged:
        forecast += f" at {cost / 1e6:,.1f} M multiply-adds: {PASSES_PER_STEP * cost * faces:.1e} in all"
    return {
        "recipe": recipe, "config": config, "flags": flags, "multiply_adds": cost, "faces_seen": faces,
        "forecast": forecast, "published": _published(HERE / "configs" / source) if source else "",
    }  # fmt: skip


def _published(config: Path) -> str:
    """What the file's header says was published, in one line."""
    words = " ".join(line.removeprefix("#").strip() for line in config.read_text().splitlines() if line[:1] == "#")
    found = re.search(r"Published[^:]*: (.*?)(?:;|\.(?: [A-Z\"`]|$))", words)
    return found[1] if found else ""


def command(name: str, row: dict, args: Namespace, seed: int) -> list[str]:
    """What to run for one row and seed."""
    words = ["accelerate", "launch", "--num_processes", str(args.num_processes)]
    words += ["--multi_gpu"] if args.num_processes > 1 else []
    words += [f"recipes/{row['recipe']}.py"]
    words += ["--config", f"recipes/configs/{row['config']}"] if row["config"] else []
    for flag, value in row["flags"].items():
        words += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    words += ["--seed", str(seed), "--output_dir", str(Path(args.output_dir, name, f"seed-{seed}"))]
    words += ["--data_dir", args.data_dir] if args.data_dir else []
    words += ["--resume_from_checkpoint", "true"]
    return [*words, *shlex.split(args.flags), *(["--disable_tqdm", "true"] if args.disable_tqdm else [])]


def finished(run_dir: Path) -> bool:
    """The record is the last that a run writes."""
    return (run_dir / "run_record.json").is_file()


def train(words: list[str], run_dir: Path) -> None:
    """Run a row, unless it is finished; what it prints goes to the terminal."""
    if finished(run_dir):
        print(f"    finished before: {run_dir}", flush=True)
    else:
        subprocess.run([sys.executable, "-m", "accelerate.commands.accelerate_cli", *words[1:]], check=False)


if __name__ == "__main__":
    run(main)
