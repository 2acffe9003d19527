"""Which data set a command reads: the flags, and loading it."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from fer_hf.errors import BadInputError, parse_map


if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def add_data_flags(parser: ArgumentParser, default: str | None = None) -> None:
    """Add the flags by which a command is told of a data set."""
    note = f" (default: {default})" if default else ""
    parser.add_argument(
        "--dataset_name", "--dataset", default=default, metavar="NAME",
        help=f"a name that fer_hf.load_dataset knows{note}",
    )  # fmt: skip
    parser.add_argument("--data_dir", metavar="DIR", help="folder with the data set's own files")
    parser.add_argument("--dataset_options", default="{}", metavar="JSON", help="options of the loader")


def add_quiet_flag(parser: ArgumentParser) -> None:
    """Add the flag that switches progress bars off."""
    parser.add_argument("--disable_tqdm", action="store_true", help="show no progress bars")


def load_tables(args: Namespace, **options: Any) -> "DatasetDict":
    """The data set that the flags name. What its loader says of it, such as carved splits, is shown on stderr."""
    import logging

    from fer_hf.data import load_dataset

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("fer_hf.data").setLevel(logging.INFO)
    options |= parse_map("dataset_options", args.dataset_options)
    return load_dataset(args.dataset_name, args.data_dir, **options)


def one_split(tables: "DatasetDict", split: str) -> "Dataset":
    """
    One split of a data set.

    Raises:
        BadInputError: If there is none of that name.
    """
    if split not in tables:
        raise BadInputError(f"`split` must be one of {', '.join(tables)}, got {split!r}.")
    return tables[split]
