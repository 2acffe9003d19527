"""print versions, for bug reports"""

from argparse import ArgumentParser, Namespace


def add_flags(parser: ArgumentParser) -> None:
    """It has none."""


def run(args: Namespace) -> None:
    from fer_hf.provenance import surroundings, versions

    for name, value in {**versions(), **surroundings()}.items():
        print(f"{name:<24} {value}")
