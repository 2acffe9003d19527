"""say which of two runs is better at which expression"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import add_overwrite_flag


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--run", nargs=2, required=True, metavar=("DIR_A", "DIR_B"),
        help="folders of two finished runs that scored the same images",
    )  # fmt: skip
    parser.add_argument("--split", help="split to compare on (default: test, or validation if neither was tested)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file for the comparison")
    add_overwrite_flag(parser)


def run(args: Namespace) -> None:
    from fer_hf.escape import printable
    from fer_hf.files import check_output, write_json
    from fer_hf.runs.compare import compare_runs, comparison_text

    if args.output:
        check_output("output", args.output, args.overwrite, args.run)
    result = compare_runs(*args.run, args.split)
    print(printable(comparison_text(result)))
    if args.output:
        write_json(args.output, result)
