"""score a classifier on a split: intervals, subgroups, damage, calibration"""

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import (
    add_data_flags,
    add_model_flag,
    add_overwrite_flag,
    add_quiet_flag,
    load_tables,
)
from fer_hf.cli.parser import count


def add_flags(parser: ArgumentParser) -> None:
    add_model_flag(parser)
    add_data_flags(parser, "synthetic")
    add_quiet_flag(parser)
    parser.add_argument(
        "--split", default="test", help="a split, or several apart and together: validation+test (default: test)"
    )
    parser.add_argument(
        "--max_eval_samples", type=count, metavar="N",
        help="a sample of N images of each split only (default for a run's own data: what the run took)",
    )  # fmt: skip
    parser.add_argument("--tta", default="none", help="average logits over views: none (default), flip or ten_crop")
    parser.add_argument("--batch_size", type=count, default=64, metavar="N", help="images at a time (default: 64)")
    parser.add_argument("--subgroups", nargs="+", default=[], metavar="COLUMN", help="score apart by these columns")
    parser.add_argument("--robustness", action="store_true", help="score damaged images too: 25 times the work")
    parser.add_argument("--calibrate", action="store_true", help="fit a temperature on validation, into config.json")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON file (default: in the run's folder, under evaluation/)"
    )
    add_overwrite_flag(parser)
    parser.add_argument("--device", help="such as cuda:1 (default: a GPU if there is one)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")


def run(args: Namespace) -> None:
    from fer_hf.data.select import sample_splits
    from fer_hf.escape import printable
    from fer_hf.evaluation.evaluate import EvaluationOptions, evaluate, evaluation_text
    from fer_hf.models.loading import locate
    from fer_hf.provenance import public_words
    from fer_hf.runs.evaluations import check_place, limits_of_run, save_evaluation

    model = args.model_name_or_path
    check_place(model, args.output, args.calibrate, args.overwrite)
    locate(model)
    command = shlex.join(["fer-hf", *public_words(args.words)])
    limits = limits_of_run(model, args.dataset_name)
    if args.max_eval_samples is not None:
        limits["max_eval"] = args.max_eval_samples
    options = EvaluationOptions(
        args.split, args.tta, args.batch_size, args.subgroups, args.robustness, args.calibrate, args.device,
        limits.get("max_eval"),
    )  # fmt: skip
    tables = sample_splits(load_tables(args), **limits)
    result = evaluate(model, args.dataset_name, tables, options, command, trust_remote_code=args.trust_remote_code)
    print(printable(evaluation_text(result, *save_evaluation(result, model, args.output))))
