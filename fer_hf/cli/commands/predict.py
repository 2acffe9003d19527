"""find the faces in photos or a video and say what they show"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import (
    add_model_flag,
    add_overwrite_flag,
    add_photo_flags,
    add_quiet_flag,
    find_photos,
)
from fer_hf.cli.parser import count, seconds
from fer_hf.errors import BadInputError


def add_flags(parser: ArgumentParser) -> None:
    add_photo_flags(parser, "; or one video")
    add_model_flag(parser, required=False)
    add_quiet_flag(parser)
    parser.add_argument("--calibrated", action="store_true", help="apply the temperature that the model has")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file for all faces: .csv, .jsonl or .parquet")
    parser.add_argument(
        "--annotate", type=Path, metavar="DIR", help="folder for pictures with the faces marked; of a video, an .mp4"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE",
        help="PNG: of one photo, bars of its faces' probabilities; of several, a sheet of faces with the answers; "
        "of a video, the probabilities over time",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with an --output that was interrupted")
    add_overwrite_flag(parser)
    parser.add_argument(
        "--batch_size", type=count, default=16, metavar="N", help="photos or frames at a time (default: 16)"
    )
    parser.add_argument(
        "--every_seconds", type=seconds, metavar="SECONDS", help="of a video: a frame in so much time (default: all)"
    )
    parser.add_argument(
        "--smooth_seconds", type=seconds, metavar="SECONDS", help="of a video: average each face over so much time"
    )


def run(args: Namespace) -> None:
    from fer_hf.inference.detectors import get_detector
    from fer_hf.inference.predict import (
        DEFAULT_MODEL,
        Places,
        left_out_text,
        load_pipeline,
        predict_to,
    )
    from fer_hf.inference.video import is_video
    from fer_hf.models.loading import locate
    from fer_hf.provenance import own_name

    if any(map(is_video, args.paths)):
        _run_on_video(args)
        return
    if args.every_seconds or args.smooth_seconds:
        raise BadInputError("`every_seconds` and `smooth_seconds` are for a video.")
    model = args.model_name_or_path or DEFAULT_MODEL
    locate(model)
    entries, left_out = find_photos(args)
    places = Places(args.output, args.annotate, args.plot, args.resume, args.overwrite)
    if not places.check(entries):
        print(f"{args.output} is finished: nothing is left to do")
        return
    find = get_detector(args.detector, args.detector_path)
    settings = {"model": own_name(model), "detector": args.detector, "calibrated": args.calibrated}
    if left_out:
        print(left_out_text(left_out))
    classifier = load_pipeline(model, detector=find, calibrated=args.calibrated)
    predict_to(classifier, entries, places, settings, args.batch_size, args.disable_tqdm)


def _run_on_video(args: Namespace) -> None:
    from fer_hf.inference.detectors import get_detector
    from fer_hf.inference.predict import Places, load_pipeline
    from fer_hf.inference.predict_video import check_video, predict_video

    if len(args.paths) > 1 or args.dataset_name:
        raise BadInputError("A video is predicted alone: leave out the other PATHs, or `dataset_name`.")
    places = Places(args.output, args.annotate, args.plot, args.resume, args.overwrite)
    check_video(args.paths[0], places)
    find = get_detector(args.detector or "auto", args.detector_path)
    classifier = load_pipeline(args.model_name_or_path, detector=find, calibrated=args.calibrated)
    timing = {"every_seconds": args.every_seconds, "smooth_seconds": args.smooth_seconds}
    predict_video(
        classifier, args.paths[0], places, **timing, batch_size=args.batch_size, disable_tqdm=args.disable_tqdm
    )
