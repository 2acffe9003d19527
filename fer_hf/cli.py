"""`fer-hf`: sub-commands of a few lines over the library."""

import argparse
import json
import sys
from pathlib import Path

from fer_hf.errors import BadInputError


def main(argv: list[str] | None = None) -> int:
    """
    Run a sub-command.

    Args:
        argv (`list[str]`, *optional*): Without the program's name; `sys.argv[1:]` by default.

    Returns:
        `int`: 0, or 2 on bad input, after one line on stderr.
    """
    parser = argparse.ArgumentParser(
        prog="fer-hf", description="Facial expression recognition on the Hugging Face stack."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("env", help="print versions, for bug reports").set_defaults(run=_env)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--dataset", default="synthetic", help="a name that fer_hf.data.load_dataset knows")
    data.add_argument("--data_dir", help="folder with the data set's own files")
    data.add_argument("--dataset_options", default="{}", help="options of the loader, as JSON")
    faces = commands.add_parser("faces", parents=[data], help="count a data set's faces and draw a sheet of them")
    faces.add_argument("--split", default="train", help="split to draw from")
    faces.add_argument("--output", type=Path, help="PNG file for the sheet")
    faces.set_defaults(run=_faces)
    models = commands.add_parser("models", help="list the architectures that can be trained from scratch by name")
    models.add_argument("--json", action="store_true", help="print them as JSON")
    models.set_defaults(run=_models)
    audit = commands.add_parser("audit", parents=[data], help="find copies, leaks, conflicts and bad mirrors")
    audit.add_argument("--output", type=Path, help="folder for audit.json and pictures (of real faces: keep them)")
    audit.add_argument("--disable_tqdm", action="store_true", help="show no progress bars")
    audit.set_defaults(run=_audit)
    predict = commands.add_parser("predict", help="find the faces in photos and say what they show")
    predict.add_argument("paths", nargs="*", metavar="PATH", help="images, folders of them, URLs")
    predict.add_argument("--model", help="output folder of a run, a Hub id, or a checkpoint that ships")
    predict.add_argument("--dataset", help="instead of paths, a name that fer_hf.data.load_dataset knows")
    predict.add_argument("--data_dir", help="folder with the data set's own files")
    predict.add_argument("--dataset_options", default="{}", help="options of the loader, as JSON")
    predict.add_argument("--split", default="test", help="split of the data set")
    predict.add_argument(
        "--detector", help="auto (of photos, the default), none (of data sets: each is a face), yunet, ..."
    )
    predict.add_argument("--detector_path", help="ONNX file or Hub id of yunet")
    predict.add_argument("--calibrated", action="store_true", help="apply the temperature that the model has")
    predict.add_argument("--output", type=Path, help="file for all faces, .jsonl or .csv")
    predict.add_argument("--annotate", type=Path, metavar="DIR", help="folder for pictures with the faces marked")
    predict.add_argument("--batch_size", type=int, default=16, help="photos at a time")
    predict.add_argument("--disable_tqdm", action="store_true", help="show no progress bars")
    predict.set_defaults(run=_predict)
    export = commands.add_parser("export", parents=[data], help="write an ONNX file, scored beside the model")
    export.add_argument("--model", required=True, help="output folder of a run, a Hub id, or a checkpoint that ships")
    export.add_argument("--format", default="onnx", help="onnx (float32) or int8")
    export.add_argument("--split", default="test", help="split to score on")
    export.add_argument("--max_drop", type=float, default=0.005, help="accuracy that may be lost, in [0, 1]")
    export.add_argument("--output", type=Path, required=True, help="file to write")
    export.add_argument("--disable_tqdm", action="store_true", help="show no progress bars")
    export.set_defaults(run=_export)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except BadInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _env(args: argparse.Namespace) -> None:
    from fer_hf.provenance import surroundings, versions

    for name, value in {**versions(), **surroundings()}.items():
        print(f"{name:<24} {value}")


def _models(args: argparse.Namespace) -> None:
    from fer_hf.models import ARCHITECTURES, describe

    rows = [describe(name) for name in ARCHITECTURES]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'name':<20}{'input':>9}{'parameters':>14}{'multiply-adds':>16}  source")
    for row in rows:
        size = f"{row['num_channels']}x{row['image_size']}x{row['image_size']}"
        millions = f"{row['multiply_adds'] / 1e6:,.1f} M"
        print(f"{row['name']:<20}{size:>9}{row['parameters']:>14,}{millions:>16}  {row['source']}")


def _faces(args: argparse.Namespace) -> None:
    from fer_hf.evaluation.plots import plot_faces
    from fer_hf.evaluation.record import describe_dataset

    dataset = _load(args)
    for split, counts in describe_dataset(args.dataset, dataset)["counts"].items():
        print(f"{split:<12} {sum(counts.values()):>7,}  " + "  ".join(f"{n} {c:,}" for n, c in counts.items()))
    if args.output:
        if args.split not in dataset:
            raise BadInputError(f"`--split` must be one of {', '.join(dataset)}, got {args.split!r}.")
        plot_faces(dataset[args.split], args.output)
        print(f"sheet of {args.split}: {args.output}")


def _audit(args: argparse.Namespace) -> None:
    import datasets

    from fer_hf.data.audit import audit
    from fer_hf.evaluation.audit_report import audit_text, write_audit

    if args.disable_tqdm:
        datasets.disable_progress_bars()
    if args.output and args.output.exists() and not args.output.is_dir():
        raise BadInputError(f"`--output` must be a folder, and {args.output} is a file.")
    faces = _load(args)
    result = audit(faces, args.dataset)
    print(audit_text(result))
    if args.output:
        print(f"\nwritten: {', '.join(map(str, write_audit(result, faces, args.output)))}")


def _predict(args: argparse.Namespace) -> None:
    from fer_hf.evaluation.plots import draw_faces
    from fer_hf.inference.predict import entries_of_paths, entries_of_table, load_pipeline, predict_to

    if bool(args.paths) == bool(args.dataset):
        raise BadInputError("Give either photos (files, folders, URLs) or `--dataset`.")
    if args.disable_tqdm:
        _disable_progress_bars()
    detector = args.detector or ("none" if args.dataset else "auto")
    if args.dataset:
        table = _split(args)
        entries, total = entries_of_table(table, f"{args.dataset}/{args.split}"), len(table)
    else:
        entries = entries_of_paths(args.paths)
        total = len(entries)
    classifier = load_pipeline(
        args.model, detector=detector, detector_path=args.detector_path, calibrated=args.calibrated
    )
    predict_to(classifier, entries, total, args.output, args.annotate, draw_faces, args.batch_size, args.disable_tqdm)


def _export(args: argparse.Namespace) -> None:
    from fer_hf.inference.predict import load_pipeline
    from fer_hf.inference.scored_export import export_scored

    if args.disable_tqdm:
        _disable_progress_bars()
    faces = _load(args)
    classifier = load_pipeline(args.model, detector="none", device="cpu")
    export_scored(
        classifier.model, classifier.image_processor, faces, args.output, args.format, args.split, args.max_drop,
        args.disable_tqdm,
    )  # fmt: skip
    print(f"written: {args.output}")


def _disable_progress_bars() -> None:
    import datasets
    from transformers.utils.logging import disable_progress_bar

    datasets.disable_progress_bars()
    disable_progress_bar()


def _split(args: argparse.Namespace):
    dataset = _load(args)
    if args.split not in dataset:
        raise BadInputError(f"`--split` must be one of {', '.join(dataset)}, got {args.split!r}.")
    return dataset[args.split]


def _load(args: argparse.Namespace):
    from fer_hf.data import load_dataset

    try:
        options = json.loads(args.dataset_options)
    except json.JSONDecodeError as error:
        raise BadInputError(f"`--dataset_options` is no JSON: {error}.") from error
    return load_dataset(args.dataset, data_dir=args.data_dir, **options)


if __name__ == "__main__":
    sys.exit(main())
