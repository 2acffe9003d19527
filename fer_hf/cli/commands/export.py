"""write an ONNX file, scored beside the model"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fer_hf.cli.commands.data_flags import (
    add_data_flags,
    add_model_flag,
    add_overwrite_flag,
    add_quiet_flag,
    load_tables,
)


def add_flags(parser: ArgumentParser) -> None:
    add_model_flag(parser)
    add_data_flags(parser, "synthetic")
    add_quiet_flag(parser)
    parser.add_argument("--format", default="onnx", help="onnx (float32, the default) or int8")
    parser.add_argument("--split", default="validation", help="split to score on (default: validation)")
    parser.add_argument(
        "--max_drop", type=float, default=0.005, metavar="SHARE", help="accuracy that may be lost (default: 0.005)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="ONNX file to write")
    add_overwrite_flag(parser)


def run(args: Namespace) -> None:
    from fer_hf.files import check_output
    from fer_hf.inference.export import export_scored
    from fer_hf.models.loading import load_trained_classifier

    for file in (args.output, Path(f"{args.output}.data")):  # the weights of large models lie beside it
        check_output("output", file, args.overwrite, filter(None, [args.model_name_or_path, args.data_dir]))
    model, processor = load_trained_classifier(args.model_name_or_path, trust_remote_code=False)
    tables = load_tables(args)
    export_scored(model, processor, tables, args.output, args.format, args.split, args.max_drop, args.disable_tqdm)
    print(f"written: {args.output}")
