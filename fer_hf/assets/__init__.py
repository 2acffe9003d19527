"""Small checkpoints that ship with the package."""

from pathlib import Path


_HERE = Path(__file__).parent


def asset_names() -> list[str]:
    """Names of the checkpoints that ship with the package."""
    return sorted(path.parent.name for path in _HERE.glob("*/config.json"))


def asset(name: str) -> str:
    """
    Folder of a checkpoint that ships with the package, for `from_pretrained` and `pipeline`.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in asset_names():
        raise ValueError(f"No checkpoint named {name!r} ships with fer_hf; there are: {', '.join(asset_names())}.")
    return str(_HERE / name)
