"""write a data set as Parquet files with a card"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import add_data_flags, add_quiet_flag, load_tables
from fer_hf.errors import parse_map


def add_flags(parser: ArgumentParser) -> None:
    add_data_flags(parser, "synthetic")
    add_quiet_flag(parser)
    parser.add_argument(
        "--output_dir", type=Path, required=True, metavar="DIR",
        help="new or empty folder for data/*.parquet and README.md (of real faces: mind their terms)",
    )  # fmt: skip
    parser.add_argument(
        "--push",
        metavar="REPO_ID",
        help="also upload the folder to owner/name on the Hub, always as a private data set",
    )


def run(args: Namespace) -> None:
    from fer_hf.data.convert import convert
    from fer_hf.runs.facts import dataset_facts
    from fer_hf.runs.publish import check_login, push_dataset

    if args.push:
        check_login(args.push)
    options = parse_map("dataset_options", args.dataset_options)
    # Streamed where a data set can be: no tables are cached besides those that are asked for.
    streaming = not args.dataset_name.startswith("hub:") and not options.get("deduplicate")
    tables = load_tables(args, streaming=streaming)
    result = convert(tables, args.output_dir, args.dataset_name, dataset_facts(args.dataset_name))
    for split, counts in result["counts"].items():
        print(f"{split:<12} {sum(counts.values()):>7,}")
    print(f"written: {len(result['files'])} Parquet files and README.md in {args.output_dir}")
    if args.push:
        print(f"private, and to stay so unless its terms allow more: {push_dataset(args.output_dir, args.push)}")
