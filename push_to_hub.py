"""
Publish a run on the Hugging Face Hub: write its model card, show the files, upload them. The same as `fer-hf push`.

    python push_to_hub.py RUN --repo_id owner/name [--private] [--create_pr] [--revision REV] [--dry_run]

Needs a token with write access (`hf auth login` or HF_TOKEN), except with --dry_run and --card_dir. After an
interruption, run the same command again.
"""

import sys

from fer_hf.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
