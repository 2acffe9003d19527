"""list the architectures that can be trained from scratch by name"""

import json
from argparse import ArgumentParser, Namespace


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print them as JSON")


def run(args: Namespace) -> None:
    from fer_hf.models import ARCHITECTURES, describe

    rows = [describe(name) for name in ARCHITECTURES]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'name':<20}{'input':>9}{'parameters':>14}{'multiply-adds':>16}  source")
    for row in rows:
        size = f"{row['num_channels']}x{row['image_size']}x{row['image_size']}"
        millions = f"{row['multiply_adds'] / 1e6:,.1f} M"
        print(f"{row['name']:<20}{size:>9}{row['parameters']:>14,}{millions:>16}  {row['source']}")
