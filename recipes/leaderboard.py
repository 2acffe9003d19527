"""
Train many models under one protocol and put them in one table: `leaderboard.md`, `.json` and `.png`.

    # Every architecture at 40 to 64 pixels, under one equal budget of multiply-adds
    python recipes/leaderboard.py --data_dir DIR
    # A source's own table, published beside measured; what it would take first, and a small one
    python recipes/leaderboard.py --data_dir DIR --budget cnn_comparison --dry_run
    python recipes/leaderboard.py --data_dir DIR --budget cnn_comparison --scale 64 --epochs 1

The rows and their flags, and what the sources printed, stand in `recipes/leaderboard/<budget>.yaml`. Each row is a run
of its own recipe, in a folder of its own under `--output_dir`: started again, a leaderboard goes on with the run that
was interrupted, from its last checkpoint if it writes any, and finished runs are not run again. Whatever is selected
is selected on validation, and test is scored once for each run; where a source reports its last epoch, so are the
weights after that.
"""

import json
import math
import os
import shlex
import shutil
import sys
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from fer_hf.cli.ending import run_commands
from fer_hf.cli.launch import ACCELERATE_DEFAULTS, available_cores, run
from fer_hf.cli.parser import OneLineParser, count
from fer_hf.errors import BadInputError
from fer_hf.runs.leaderboard import leaderboard_table, summarise, write_leaderboard
from fer_hf.runs.leaderboard_plan import is_finished, planned_row, shrunk
from fer_hf.runs.record import RECORD


HERE = Path(__file__).parent
BUDGETS = sorted(path.stem for path in (HERE / "leaderboard").glob("*.yaml"))
ACCELERATE = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *ACCELERATE_DEFAULTS)


def main() -> None:
    args = parse()
    plan = yaml.safe_load((HERE / "leaderboard" / f"{args.budget}.yaml").read_text(encoding="utf-8"))
    plan = shrunk(plan, args.scale, args.epochs, args.flags)
    chosen = args.only or list(plan["rows"])
    for name in chosen:
        if name not in plan["rows"]:
            raise BadInputError(
                f"`only` must be rows of {args.budget}.yaml ({', '.join(plan['rows'])}), got {name!r}."
            )
    if args.dry_run:
        for name in chosen:
            row = planned_row(plan["rows"][name], plan, HERE / "configs", args.num_processes)
            print(f"{name}: {shlex.join(command(name, row, args, args.seeds[0]))}\n    {row['forecast']}")
    elif args.data_dir is None:
        raise BadInputError("`data_dir` is missing: the folder of the data set.")
    else:
        fill(plan, chosen, args)


def fill(plan: dict, chosen: list[str], args: Namespace) -> None:
    """Train the chosen rows, and put every finished row into the table; of a source's table the others, too."""
    rows = {name: planned_row(row, plan, HERE / "configs", args.num_processes) for name, row in plan["rows"].items()}
    runs = {name: runs_of(name, row, args, name in chosen) for name, row in rows.items()}
    results, complaints = tabulate(plan, rows, runs, args)
    for name, complaint in complaints.items():
        if name not in chosen:
            print(f"{name} is left out of the table: {complaint}", flush=True)
    asked = [name for name in chosen if name not in complaints and not rows[name]["refused"]]
    for _ in run_commands(waiting(asked, rows, runs), args.jobs, args.seconds or math.inf, logs=args.jobs > 1):
        results, complaints = tabulate(plan, rows, runs, args)  # after each run, to be looked at
    if any(row["runs"] for row in results):
        print(f"\n{leaderboard_table(plan, results)}\n\nTable, picture and all figures are in {args.output_dir}.")
    log = " or its log" if args.jobs > 1 else ""
    for name in asked:
        if not all((run_dir / RECORD).is_file() for run_dir in runs[name]):
            complaints[name] = f"a run did not finish: see above{log} what it said; the same command goes on"
    if failed := [f"{name}: {complaints[name]}" for name in chosen if name in complaints]:
        raise BadInputError(f"Rows without a figure: {'; '.join(failed)}")


def runs_of(name: str, row: dict, args: Namespace, asked: bool) -> dict[Path, list[str]]:
    """The folders of a row's runs, each with its command; of a row that was not asked for, those that are there."""
    folder = Path(args.output_dir, name)
    there = sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*") if path.is_dir())
    return {folder / f"seed-{seed}": command(name, row, args, seed) for seed in (args.seeds if asked else there)}


def waiting(names: list[str], rows: dict, runs: dict) -> Iterator[tuple[Path, list[str]]]:
    """The runs that are still to be made, and what makes them."""
    for number, name in enumerate(names, start=1):
        for run_dir, words in runs[name].items():
            finished = (run_dir / RECORD).is_file()
            about = "finished before" if finished else rows[name]["forecast"]
            print(f"[{number}/{len(names)}] {name}: {about}; {run_dir}", flush=True)
            if not finished:
                yield run_dir, [*ACCELERATE, *words[2:]]


def tabulate(plan: dict, rows: dict, runs: dict, args: Namespace) -> tuple[list[dict], dict[str, str]]:
    """Write the table of all rows, with those whose runs are finished; what is wrong with other runs, by row."""
    results, kept, complaints = [], [], {}
    for name, row in rows.items():
        try:
            finished = list(runs[name]) if all(is_finished(*run) for run in runs[name].items()) else []
            results.append(summarise(name, row, finished))
            kept += finished
        except BadInputError as error:
            complaints[name] = str(error)
            results.append(summarise(name, row, []))
    if kept:
        write_leaderboard(Path(args.output_dir), plan, results)
        if args.records_dir is not None:
            keep_records(Path(args.output_dir), Path(args.records_dir, args.budget), kept)
    return results, complaints


def command(name: str, row: dict, args: Namespace, seed: int) -> list[str]:
    """What to run for one row and seed: goes on with an unfinished run; the further flags come last and so win."""
    recipes = Path(os.path.relpath(HERE))
    words = ["accelerate", "launch", "--num_processes", str(args.num_processes)]
    words += ["--multi_gpu"] if args.num_processes > 1 else []
    words += [str(recipes / f"{row['recipe']}.py")]
    words += ["--config", str(recipes / "configs" / row["config"])] if row["config"] else []
    for flag, value in row["flags"].items():
        words += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    words += ["--seed", str(seed), "--output_dir", str(Path(args.output_dir, name, f"seed-{seed}"))]
    words += ["--data_dir", args.data_dir] if args.data_dir else []
    words += [
        "--resume_from_checkpoint",
        "true",
        *args.flags,
        *(["--disable_tqdm", "true"] if args.disable_tqdm else []),
    ]
    shared = args.jobs > 1 and "--cpu_threads" not in args.flags
    return [*words, *(["--cpu_threads", str(max(1, available_cores() // args.jobs))] if shared else [])]


def keep_records(folder: Path, records: Path, runs: Iterable[Path]) -> None:
    """Copy the table and the records of runs: all that stays of those whose weights are not kept."""
    files = [*(run / "run_record.json" for run in runs), *folder.glob("leaderboard.*")]
    for file in files:
        place = records / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def parse() -> Namespace:
    """The command line."""
    parser = OneLineParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data_dir", help="folder with the data set's own files")
    parser.add_argument("--budget", default="cpu", choices=BUDGETS, help="which list of rows (default: cpu)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows only")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="one run of each row for every seed")
    parser.add_argument("--output_dir", help="for the runs and the table (default: runs/leaderboard/<budget>)")
    parser.add_argument("--records_dir", help="also keep the table and the runs' records here, in a folder <budget>")
    parser.add_argument("--scale", type=count, metavar="PIXELS", help="the largest faces that a network sees")
    parser.add_argument("--epochs", type=count, metavar="N", help="epochs of every run")
    parser.add_argument("--num_processes", type=count, default=1, help="processes of each run (default: 1)")
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="runs side by side, each with a log")
    parser.add_argument(
        "--seconds", type=count, metavar="N", help="interrupt what runs then: the same command goes on"
    )
    parser.add_argument("--dry_run", action="store_true", help="print the commands and what they cost")
    parser.add_argument(
        "--disable_tqdm", action=BooleanOptionalAction, default=False, help="runs show results and warnings alone"
    )
    parser.add_argument(
        "--flags", type=shlex.split, default=[], help="further flags for every run: --flags='--use_cpu'"
    )
    args = parser.parse_args()
    args.output_dir = args.output_dir or f"runs/leaderboard/{args.budget}"
    return args


if __name__ == "__main__":
    run(main)
