"""find copies, leaks, conflicts and bad mirrors"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import add_data_flags, add_overwrite_flag, add_quiet_flag, load_tables


def add_flags(parser: ArgumentParser) -> None:
    add_data_flags(parser, "synthetic")
    add_quiet_flag(parser)
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR",
        help="folder for audit.json and pictures (of real faces: keep them to yourself)",
    )  # fmt: skip
    add_overwrite_flag(parser)


def run(args: Namespace) -> None:
    from fer_hf.data.audit import audit
    from fer_hf.data.audit_report import AUDIT_FILES, audit_text, write_audit
    from fer_hf.escape import printable
    from fer_hf.files import check_output

    if args.output_dir:
        check_output("output_dir", args.output_dir, folder=True)
        for name in AUDIT_FILES:
            check_output("output_dir", args.output_dir / name, args.overwrite, filter(None, [args.data_dir]))
    tables = load_tables(args)
    result = audit(tables, args.dataset_name)
    print(printable(audit_text(result)))
    if args.output_dir:
        print(f"\nwritten: {', '.join(map(str, write_audit(result, tables, args.output_dir)))}")
