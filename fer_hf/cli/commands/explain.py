"""draw where a classifier looks in each face of photos"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import (
    add_model_flag,
    add_overwrite_flag,
    add_photo_flags,
    add_quiet_flag,
    find_photos,
)


def add_flags(parser: ArgumentParser) -> None:
    add_photo_flags(parser)
    add_model_flag(parser, required=False)
    add_quiet_flag(parser)
    parser.add_argument(
        "--output_dir", type=Path, required=True, metavar="DIR", help="folder for a picture of each face"
    )
    add_overwrite_flag(parser)


def run(args: Namespace) -> None:
    from fer_hf.cli.explaining import check_place, explain_to
    from fer_hf.inference.detectors import get_detector
    from fer_hf.inference.predict import DEFAULT_MODEL, left_out_text, load_pipeline
    from fer_hf.models.loading import locate

    model = args.model_name_or_path or DEFAULT_MODEL
    locate(model)
    entries, left_out = find_photos(args)
    check_place(args.output_dir, entries, args.overwrite)
    find = get_detector(args.detector, args.detector_path)
    classifier = load_pipeline(model, detector=find)
    if left_out:
        print(left_out_text(left_out))
    explain_to(classifier, find, entries, args.output_dir, args.disable_tqdm)
