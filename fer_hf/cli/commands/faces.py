"""count a data set's faces and draw a sheet of them"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import (
    add_data_flags,
    add_overwrite_flag,
    add_quiet_flag,
    load_tables,
    one_split,
)


def add_flags(parser: ArgumentParser) -> None:
    add_data_flags(parser, "synthetic")
    add_quiet_flag(parser)
    parser.add_argument("--split", default="train", help="split to draw from (default: train)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="PNG file for the sheet")
    add_overwrite_flag(parser)


def counts_line(split: str, counts: dict[str, int]) -> str:
    """The faces of a split by class and their mean; a class below it has a star."""
    mean = sum(counts.values()) / len(counts)
    shown = "  ".join(f"{name} {count:,}{'*' if count < mean else ''}" for name, count in counts.items())
    about = f"  (mean {mean:,.1f} a class{', *: below it' if '*' in shown else ''})" if mean else ""
    return f"{split:<12} {sum(counts.values()):>7,}  {shown}{about}"


def run(args: Namespace) -> None:
    from fer_hf.data.audit_report import samples
    from fer_hf.escape import printable
    from fer_hf.files import check_output
    from fer_hf.plots import plot_faces
    from fer_hf.runs.record import describe_dataset

    if args.output:
        check_output("output", args.output, args.overwrite, filter(None, [args.data_dir]))
    tables = load_tables(args)
    drawn = one_split(tables, args.split) if args.output else None
    for split, counts in describe_dataset(args.dataset_name, tables)["counts"].items():
        print(printable(counts_line(split, counts)))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        plot_faces(samples(drawn), args.output)
        print(f"sheet of {args.split}: {args.output}")
