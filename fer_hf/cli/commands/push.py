"""publish a run on the Hugging Face Hub: its card, then its files"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_hf.cli.commands.data_flags import add_quiet_flag
from fer_hf.errors import BadInputError
from fer_hf.words import plural


if TYPE_CHECKING:
    from fer_hf.runs.run import Run


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="folder of a finished run; with --space any model")
    parser.add_argument("--repo_id", help="owner/name on the Hub; created if it does not exist")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--create_pr", action="store_true", help="open (or update) a pull request, do not commit")
    parser.add_argument("--revision", help="branch to commit to; created if it does not exist")
    parser.add_argument("--commit_message", help="title of the commit or pull request")
    parser.add_argument("--license", help="the Hub's id of a licence (default: what the data's terms allow)")
    parser.add_argument("--include_faces", action="store_true", help="also upload pictures that show the data's faces")
    parser.add_argument("--dry_run", action="store_true", help="write the card, list the files, upload nothing")
    parser.add_argument(
        "--card_dir", metavar="DIR", help="instead: add the card, with pictures, to this folder of cards and its index"
    )
    parser.add_argument(
        "--space",
        metavar="OWNER/NAME",
        help="instead: make the page of `fer-hf page` a static Space",
    )
    add_quiet_flag(parser)


def run(args: Namespace) -> None:
    from huggingface_hub.utils import disable_progress_bars

    from fer_hf.runs.gallery import add_to_gallery
    from fer_hf.runs.publish import check_repo_id, push
    from fer_hf.runs.run import Run

    if args.disable_tqdm:
        disable_progress_bars()
    if args.space is not None:
        _push_space(args)
        return
    if args.repo_id is not None:
        check_repo_id(args.repo_id)
    elif args.card_dir is None:
        raise BadInputError("`repo_id` is missing: give --repo_id owner/name, the model's name on the Hub.")
    run = Run(args.run_dir)
    if args.card_dir:
        print(add_to_gallery(run, args.card_dir, args.repo_id, args.license))
        return
    _show_files(run, args)
    if args.dry_run:
        return
    options = ("private", "create_pr", "revision", "commit_message", "license", "include_faces")
    print(push(run, args.repo_id, **{name: getattr(args, name) for name in options}))


def _push_space(args: Namespace) -> None:
    from tempfile import TemporaryDirectory

    from fer_hf.runs.publish import check_repo_id
    from fer_hf.runs.space import push_space, write_space

    for name in ("repo_id", "create_pr", "revision", "commit_message", "include_faces", "card_dir"):
        if getattr(args, name):
            raise BadInputError(f"`space` goes without `{name}`.")
    if not args.dry_run:
        print(push_space(args.run_dir, args.space, args.private, args.license))
        return
    check_repo_id(args.space)
    with TemporaryDirectory() as place:
        page = Path(place, "page")
        write_space(args.run_dir, page, args.license)
        _print_sizes([path for path in sorted(page.rglob("*")) if path.is_file()], page, f"the Space {args.space}")


def _print_sizes(files: list[Path], folder: "Path | Run", where: str) -> None:
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    for name, size in sizes.items():
        print(f"{_size(size):>12}  {name}")
    print(f"{_size(sum(sizes.values())):>12}  {plural(len(sizes), 'file')} for {where}")


def _show_files(run: "Run", args: Namespace) -> None:
    """Print what goes up, with sizes, and what stays."""
    from fer_hf.runs.card import write_model_card
    from fer_hf.runs.upload_files import check_publishable, face_pictures, files_left_out, files_to_upload

    write_model_card(run, args.repo_id, args.license, args.include_faces)
    files = files_to_upload(run, args.include_faces)
    check_publishable(files)
    _print_sizes(files, run, args.repo_id)
    if stays := files_left_out(run, files):
        print(f"not uploaded: {', '.join(stays)}")
    if faces := [path.relative_to(run).as_posix() for path in face_pictures(run)]:
        terms = "the terms of most data sets forbid to pass them on"
        state = "uploaded, as you asked" if args.include_faces else "not uploaded; --include_faces would"
        print(f"faces of people in {', '.join(faces)}: {terms} ({state})")
    sys.stdout.flush()


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
