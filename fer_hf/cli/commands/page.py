"""show a page that names expressions in the browser, where the pictures stay"""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model_name_or_path", "--model", metavar="MODEL",
        help="folder of a run or of another model, a Hub id, the name of a checkpoint that ships (default: one that "
        "ships), or an ONNX file of `fer-hf export`",
    )  # fmt: skip
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="write the page to a new folder, for any web server, and show nothing",
    )


def run(args: Namespace) -> None:
    from fer_hf.files import check_output
    from fer_hf.inference.browser import serve_page, write_page
    from fer_hf.inference.predict import DEFAULT_MODEL

    model = args.model_name_or_path or DEFAULT_MODEL
    if args.export is None:
        serve_page(model)
        return
    check_output("export", args.export, folder=True)
    write_page(model, args.export)
    print(f"written: {args.export}")
