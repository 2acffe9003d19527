"""Words for the terminal. Imports nothing of the project."""


def plural(count: float, noun: str, ending: str = "s") -> str:
    """`1 face`, `2,000 faces`."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"
