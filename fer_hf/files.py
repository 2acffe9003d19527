"""Writing files whole or not at all: a reader never sees half a file. Imports nothing of the project."""

import json
import os
from pathlib import Path


def write_json(path: str | Path, content: dict) -> None:
    """Write JSON whole or not at all: a reader never sees half a file."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
