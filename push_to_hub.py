"""
Publishes a run on the Hugging Face Hub: writes its model card, shows the files, uploads them.

    python push_to_hub.py RUN_DIR --repo_id owner/name [--private] [--create_pr] [--revision REV] [--dry_run]

Needs a token with write access (`hf auth login` or HF_TOKEN), except with --dry_run.
"""

import argparse
import sys

from fer_hf.errors import BadInputError
from fer_hf.hub import check_publishable, check_repo_id, files_to_upload, push, write_model_card


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 with one line on stderr when something the user gave is wrong."""
    parser = argparse.ArgumentParser(description="Publish a run on the Hugging Face Hub.", allow_abbrev=False)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="output directory of a run")
    parser.add_argument("--repo_id", required=True, help="owner/name on the Hub; created if it does not exist")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--revision", help="branch to commit to; created if it does not exist")
    parser.add_argument("--commit_message", help="title of the commit or pull request")
    parser.add_argument("--dry_run", action="store_true", help="write the card, list the files, upload nothing")
    args = parser.parse_args(argv)
    try:
        check_repo_id(args.repo_id)
        write_model_card(args.run_dir, args.repo_id)
        files = files_to_upload(args.run_dir)
        check_publishable(files)
        sizes = {path.name: path.stat().st_size for path in files}
        for name, size in sizes.items():
            print(f"{_size(size):>12}  {name}")
        print(f"{_size(sum(sizes.values())):>12}  {len(sizes)} files for {args.repo_id}", flush=True)
        if args.dry_run:
            return 0
        url = push(
            args.run_dir,
            args.repo_id,
            private=args.private,
            create_pr=args.create_pr,
            revision=args.revision,
            commit_message=args.commit_message,
        )
        print(url)
    except BadInputError as error:
        print(f"push_to_hub.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
