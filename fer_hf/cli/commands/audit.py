"""find copies, leaks, conflicts and bad mirrors"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import add_data_flags, add_quiet_flag, load_tables
from fer_hf.errors import BadInputError


def add_flags(parser: ArgumentParser) -> None:
    add_data_flags(parser, "synthetic")
    add_quiet_flag(parser)
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR",
        help="folder for audit.json and pictures (of real faces: keep them to yourself)",
    )  # fmt: skip


def run(args: Namespace) -> None:
    from fer_hf.data.audit import audit
    from fer_hf.data.audit_report import audit_text, write_audit

    if args.output_dir and args.output_dir.exists() and not args.output_dir.is_dir():
        raise BadInputError(f"`output_dir` must be a folder, and {args.output_dir} is a file.")
    tables = load_tables(args)
    result = audit(tables, args.dataset_name)
    print(audit_text(result))
    if args.output_dir:
        print(f"\nwritten: {', '.join(map(str, write_audit(result, tables, args.output_dir)))}")
