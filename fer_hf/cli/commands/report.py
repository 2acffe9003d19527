"""gather a run in one HTML page"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import add_data_flags, add_overwrite_flag, add_quiet_flag, load_tables
from fer_hf.errors import BadInputError


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder of a finished run")
    add_data_flags(parser)
    add_quiet_flag(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: report.html in the run's folder)"
    )
    add_overwrite_flag(parser)
    parser.add_argument(
        "--faces", action="store_true", help="show images of the data (of real people: keep the page to yourself)"
    )


def run(args: Namespace) -> None:
    from fer_hf.runs.page import write_report
    from fer_hf.runs.run import Run

    if args.data_dir and not args.dataset_name:
        raise BadInputError(f"`data_dir` {args.data_dir} needs `dataset_name`: which data set is it?")
    run = Run(args.run)
    tables = load_tables(args) if args.dataset_name else None
    page = write_report(run, tables, args.output, args.faces, args.disable_tqdm, args.overwrite)
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
