# SPDX-License-Identifier: GPL-2.0-or-later
"""`python3 -m tests.livepatches`: build the test livepatches, or list them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.livepatches.build import build
from tests.livepatches.headers import BuildError
from tests.livepatches.table import ROWS, SPECIAL


def main() -> int:
    """Do what the command line says and give the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.livepatches", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    builder = verbs.add_parser("build", help="build them and print the files")
    builder.add_argument("--out", type=Path, metavar="DIR", help="copy them there")
    builder.add_argument("--kernel", metavar="RELEASE", help="default: the newest whose cloud headers are installed")
    builder.set_defaults(function=_build)
    verbs.add_parser("list", help="what there is").set_defaults(function=_list)
    arguments = parser.parse_args()
    try:
        arguments.function(arguments)
    except BuildError as error:
        print(f"test livepatches: {error}", file=sys.stderr)
        return 1
    return 0


def _build(arguments: argparse.Namespace) -> None:
    for path in build(arguments.out, release=arguments.kernel).values():
        print(path)


def _list(_arguments: argparse.Namespace) -> None:
    for row in ROWS:
        states = ", ".join(f"{state.id:#x} v{state.version}" for state in row.states) or "no states"
        print(f"{row.name:<20} {'replace' if row.replace else 'add':<8} {states:<34} {row.about}")
    for name, about in SPECIAL.items():
        print(f"{name:<20} {'':<8} {'':<34} {about}")


if __name__ == "__main__":
    sys.exit(main())
