"""`fer-hf`: sub-commands of a few lines over the library."""

import argparse
import json
import shlex
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
    data, quiet = _data_flags("synthetic"), argparse.ArgumentParser(add_help=False)
    quiet.add_argument("--disable_tqdm", action="store_true", help="show no progress bars")
    faces = commands.add_parser("faces", parents=[data], help="count a data set's faces and draw a sheet of them")
    faces.add_argument("--split", default="train", help="split to draw from")
    faces.add_argument("--output", type=Path, help="PNG file for the sheet")
    faces.set_defaults(run=_faces)
    models = commands.add_parser("models", help="list the architectures that can be trained from scratch by name")
    models.add_argument("--json", action="store_true", help="print them as JSON")
    models.set_defaults(run=_models)
    audit = commands.add_parser("audit", parents=[data, quiet], help="find copies, leaks, conflicts and bad mirrors")
    audit.add_argument("--output", type=Path, help="folder for audit.json and pictures (of real faces: keep them)")
    audit.set_defaults(run=_audit)
    evaluate = commands.add_parser(
        "evaluate",
        parents=[data, quiet],
        help="score a classifier on a split: intervals, subgroups, damage, calibration",
    )
    evaluate.add_argument("--model", required=True, help="a run's folder, any other, a Hub id, or a shipped name")
    evaluate.add_argument("--split", default="test", help="a split, or several apart and together: validation+test")
    evaluate.add_argument("--tta", default="none", help="average logits over views: none, flip or ten_crop")
    evaluate.add_argument("--batch_size", type=int, default=64, help="faces at a time")
    evaluate.add_argument("--subgroups", nargs="+", default=[], metavar="COLUMN", help="score apart by these columns")
    evaluate.add_argument("--robustness", action="store_true", help="score damaged faces too: 25 times the work")
    evaluate.add_argument("--calibrate", action="store_true", help="fit a temperature on validation, into config.json")
    evaluate.add_argument("--output", type=Path, help="JSON file (default: in the run's folder, under evaluation/)")
    evaluate.add_argument("--device", help="such as cuda:1 (default: a GPU if there is one)")
    evaluate.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    evaluate.set_defaults(run=_evaluate)
    compare = commands.add_parser("compare", help="say which of two runs is better at which expression")
    compare.add_argument("run_a", metavar="RUN_A", help="folder of a finished run")
    compare.add_argument("run_b", metavar="RUN_B", help="folder of another that scored the same faces")
    compare.add_argument("--split", default="test", help="split to compare on")
    compare.add_argument("--output", type=Path, help="JSON file")
    compare.set_defaults(run=_compare)
    report = commands.add_parser("report", parents=[_data_flags(None), quiet], help="gather a run in one HTML page")
    report.add_argument("--run", type=Path, required=True, dest="run_dir", metavar="DIR", help="output of a recipe")
    report.add_argument("--output", type=Path, help="the page (default: report.html in the run's folder)")
    report.add_argument("--faces", action="store_true", help="show faces of the data (of real people: keep the page)")
    report.set_defaults(run=_report)
    predict = commands.add_parser(
        "predict", parents=[_data_flags(None), quiet], help="find the faces in photos and say what they show"
    )
    predict.add_argument("paths", nargs="*", metavar="PATH", help="images, folders of them, URLs")
    predict.add_argument("--model", help="output folder of a run, a Hub id, or a checkpoint that ships")
    predict.add_argument("--split", default="test", help="of --dataset, which goes instead of paths")
    predict.add_argument(
        "--detector", help="auto (of photos, the default), none (of data sets: each is a face), yunet, ..."
    )
    predict.add_argument("--detector_path", help="ONNX file or Hub id of yunet")
    predict.add_argument("--calibrated", action="store_true", help="apply the temperature that the model has")
    predict.add_argument("--output", type=Path, help="file for all faces, .jsonl or .csv")
    predict.add_argument("--annotate", type=Path, metavar="DIR", help="folder for pictures with the faces marked")
    predict.add_argument("--batch_size", type=int, default=16, help="photos at a time")
    predict.set_defaults(run=_predict)
    export = commands.add_parser("export", parents=[data, quiet], help="write an ONNX file, scored beside the model")
    export.add_argument("--model", required=True, help="output folder of a run, a Hub id, or a checkpoint that ships")
    export.add_argument("--format", default="onnx", help="onnx (float32) or int8")
    export.add_argument("--split", default="validation", help="split to score on")
    export.add_argument("--max_drop", type=float, default=0.005, help="accuracy that may be lost, in [0, 1]")
    export.add_argument("--output", type=Path, required=True, help="file to write")
    export.set_defaults(run=_export)
    args = parser.parse_args(argv)
    args.words = sys.argv[1:] if argv is None else argv
    try:
        if getattr(args, "disable_tqdm", False):
            _disable_progress_bars()
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
    from fer_hf.data.audit_report import samples
    from fer_hf.plots import plot_faces
    from fer_hf.runs.record import describe_dataset

    dataset = _load(args)
    for split, counts in describe_dataset(args.dataset, dataset)["counts"].items():
        print(f"{split:<12} {sum(counts.values()):>7,}  " + "  ".join(f"{n} {c:,}" for n, c in counts.items()))
    if args.output:
        if args.split not in dataset:
            raise BadInputError(f"`--split` must be one of {', '.join(dataset)}, got {args.split!r}.")
        plot_faces(samples(dataset[args.split]), args.output)
        print(f"sheet of {args.split}: {args.output}")


def _audit(args: argparse.Namespace) -> None:
    from fer_hf.data.audit import audit
    from fer_hf.data.audit_report import audit_text, write_audit

    if args.output and args.output.exists() and not args.output.is_dir():
        raise BadInputError(f"`--output` must be a folder, and {args.output} is a file.")
    faces = _load(args)
    result = audit(faces, args.dataset)
    print(audit_text(result))
    if args.output:
        print(f"\nwritten: {', '.join(map(str, write_audit(result, faces, args.output)))}")


def _evaluate(args: argparse.Namespace) -> None:
    from transformers.utils import logging as transformers_logging

    from fer_hf.evaluation.evaluate import EvaluationOptions, evaluate, evaluation_text
    from fer_hf.provenance import public_words
    from fer_hf.runs.evaluations import check_place, save_evaluation

    transformers_logging.disable_progress_bar()  # for work of milliseconds: loading weights
    check_place(args.model, args.output, args.calibrate)
    options = EvaluationOptions(
        args.split, args.tta, args.batch_size, args.subgroups, args.robustness, args.calibrate, args.device
    )
    command = shlex.join(["fer-hf", *public_words(args.words)])
    result = evaluate(
        args.model, args.dataset, _load(args), options, command, trust_remote_code=args.trust_remote_code
    )
    print(evaluation_text(result, *save_evaluation(result, args.model, args.output)))


def _compare(args: argparse.Namespace) -> None:
    from fer_hf.files import write_json
    from fer_hf.runs.compare import compare_runs, comparison_text

    result = compare_runs(args.run_a, args.run_b, args.split)
    print(comparison_text(result))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.output, result)


def _report(args: argparse.Namespace) -> None:
    from fer_hf.runs.page import write_report

    if args.data_dir and not args.dataset:
        raise BadInputError(f"`--data_dir` {args.data_dir} of which `--dataset`?")
    faces = _load(args) if args.dataset else None
    page = write_report(args.run_dir, faces, args.output, args.faces, args.disable_tqdm)
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")


def _data_flags(dataset: str | None) -> argparse.ArgumentParser:
    """Which data set: the flags of every sub-command that reads one."""
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--dataset", default=dataset, help="a name that fer_hf.data.load_dataset knows")
    data.add_argument("--data_dir", help="folder with the data set's own files")
    data.add_argument("--dataset_options", default="{}", help="options of the loader, as JSON")
    return data


def _predict(args: argparse.Namespace) -> None:
    from fer_hf.inference.predict import entries_of_paths, entries_of_table, load_pipeline, predict_to

    if bool(args.paths) == bool(args.dataset):
        raise BadInputError("Give either photos (files, folders, URLs) or `--dataset`.")
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
    predict_to(classifier, entries, total, args.output, args.annotate, args.batch_size, args.disable_tqdm)


def _export(args: argparse.Namespace) -> None:
    from fer_hf.inference.quantize import export_scored
    from fer_hf.models.loading import load_trained_classifier

    faces = _load(args)
    model, processor = load_trained_classifier(args.model, trust_remote_code=False)
    export_scored(
        model, processor, faces, args.output, args.format, args.split, args.max_drop, args.disable_tqdm
    )
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
