"""find the faces in photos and say what they show"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import add_data_flags, add_model_flag, add_quiet_flag, load_tables, one_split
from fer_hf.cli.parser import count
from fer_hf.errors import BadInputError


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, folders of them, URLs")
    add_model_flag(parser, required=False)
    add_data_flags(parser)
    add_quiet_flag(parser)
    parser.add_argument("--split", default="test", help="split of the data set, which goes instead of PATH")
    parser.add_argument(
        "--detector", help="auto (default for photos), none (default for data sets: each image is a face), yunet, ..."
    )
    parser.add_argument("--detector_path", metavar="FILE", help="ONNX file or Hub id of yunet")
    parser.add_argument("--calibrated", action="store_true", help="apply the temperature that the model has")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file for all faces, .jsonl or .csv")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="folder for pictures with the faces marked")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE",
        help="PNG: of one photo, bars of its faces' probabilities; of several, a sheet of faces with the answers",
    )  # fmt: skip
    parser.add_argument("--batch_size", type=count, default=16, help="photos at a time (default: 16)")


def run(args: Namespace) -> None:
    from fer_hf.inference.predict import entries_of_paths, entries_of_table, load_pipeline, predict_to

    if bool(args.paths) == bool(args.dataset_name):
        raise BadInputError("Give either photos (files, folders, URLs) or `dataset_name`.")
    if args.dataset_name:
        table = one_split(load_tables(args), args.split)
        entries, total = entries_of_table(table, f"{args.dataset_name}/{args.split}"), len(table)
    else:
        entries = entries_of_paths(args.paths)
        total = len(entries)
    classifier = load_pipeline(
        args.model_name_or_path, detector=args.detector or ("none" if args.dataset_name else "auto"),
        detector_path=args.detector_path, calibrated=args.calibrated,
    )  # fmt: skip
    predict_to(classifier, entries, total, args.output, args.annotate, args.batch_size, args.disable_tqdm, args.plot)
