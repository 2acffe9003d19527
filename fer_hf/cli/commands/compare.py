"""say which of two runs is better at which expression"""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--run", nargs=2, required=True, metavar=("DIR_A", "DIR_B"),
        help="folders of two finished runs that scored the same images",
    )  # fmt: skip
    parser.add_argument("--split", help="split to compare on (default: test, or validation if neither was tested)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file for the comparison")


def run(args: Namespace) -> None:
    from fer_hf.files import write_json
    from fer_hf.runs.compare import compare_runs, comparison_text

    result = compare_runs(*args.run, args.split)
    print(comparison_text(result))
    if args.output:
        write_json(args.output, result)
