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

import os
import shlex
import sys
from argparse import BooleanOptionalAction, Namespace
from pathlib import Path

import yaml

from fer_hf.cli.ending import wait_for
from fer_hf.cli.launch import ACCELERATE_DEFAULTS, run
from fer_hf.cli.parser import OneLineParser, count
from fer_hf.errors import BadInputError
from fer_hf.runs.leaderboard import leaderboard_table, summarise, write_leaderboard
from fer_hf.runs.leaderboard_plan import is_finished, keep_records, planned_row, row_command, shrunk


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
    folder, failed = Path(args.output_dir), []
    rows = {name: planned_row(row, plan, HERE / "configs", args.num_processes) for name, row in plan["rows"].items()}
    results = {name: summarise(name, row, []) for name, row in rows.items()}
    for number, (name, row) in enumerate(rows.items(), start=1):
        # Of rows that were not asked for, what is finished stays in the table.
        seeds = args.seeds if name in chosen else seeds_in(folder / name)
        runs = {folder / name / f"seed-{seed}": command(name, row, args, seed) for seed in seeds}
        try:
            if name in chosen and not row["refused"]:
                train(f"[{number}/{len(rows)}] {name}", row["forecast"], runs)
            if not runs or not all(is_finished(*run) for run in runs.items()):
                continue
            results[name] = summarise(name, row, list(runs))
        except BadInputError as error:
            if name in chosen:
                failed.append(f"{name}: {error}")
            else:
                print(f"{name} is left out of the table: {error}", flush=True)
            continue
        write_leaderboard(folder, plan, list(results.values()))  # after each row, to be looked at
        if args.records_dir is not None:
            keep_records(folder, Path(args.records_dir, args.budget), list(runs))
    if any(row["runs"] for row in results.values()):
        print(
            f"\n{leaderboard_table(plan, list(results.values()))}\n\nTable, picture and all figures are in {folder}."
        )
    if failed:
        raise BadInputError(f"Rows without a figure: {'; '.join(failed)}")


def train(title: str, forecast: str, runs: dict[Path, list[str]]) -> None:
    """
    Run those of a row's runs that are not finished.

    Raises:
        BadInputError: If one of them leaves no record.
    """
    for run_dir, words in runs.items():
        if is_finished(run_dir, words):
            print(f"{title}: finished before: {run_dir}", flush=True)
        else:
            print(f"{title}: {forecast}; {run_dir}", flush=True)
            wait_for([*ACCELERATE, *words[2:]])
    if not all(is_finished(*run) for run in runs.items()):
        raise BadInputError("a run did not finish: see above what it said")


def seeds_in(folder: Path) -> list[int]:
    """The seeds of a row's runs in its folder, finished or not."""
    return sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*"))


def command(name: str, row: dict, args: Namespace, seed: int) -> list[str]:
    """What to run for one row and seed."""
    extra = [*args.flags, *(["--disable_tqdm", "true"] if args.disable_tqdm else [])]
    run_dir, recipes = Path(args.output_dir, name, f"seed-{seed}"), Path(os.path.relpath(HERE))
    return row_command(row, recipes, run_dir, seed, args.data_dir, args.num_processes, extra)


def parse() -> Namespace:
    """The command line."""
    parser = OneLineParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data_dir", help="folder with the data set's own files")
    parser.add_argument("--budget", default="cpu", choices=BUDGETS, help="which list of rows (default: cpu)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows only")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="one run of each row for every seed")
    parser.add_argument(
        "--output_dir",
        default="runs/leaderboard",
        help="folder for the runs and the table (default: runs/leaderboard)",
    )
    parser.add_argument("--records_dir", help="also keep the table and the runs' records here, in a folder <budget>")
    parser.add_argument("--scale", type=count, metavar="PIXELS", help="the largest faces that a network sees")
    parser.add_argument("--epochs", type=count, metavar="N", help="epochs of every run")
    parser.add_argument("--num_processes", type=count, default=1, help="processes of each run (default: 1)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and what they cost")
    parser.add_argument(
        "--disable_tqdm", action=BooleanOptionalAction, default=False, help="runs show results and warnings alone"
    )
    parser.add_argument(
        "--flags", type=shlex.split, default=[], help="further flags for every run: --flags='--use_cpu'"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
