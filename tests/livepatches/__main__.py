# SPDX-License-Identifier: GPL-2.0-or-later
"""`python3 -m tests.livepatches build`: build the test livepatches and print where they are."""

from __future__ import annotations

import argparse
import sys

from tests.livepatches.build import BuildError, build


def main() -> int:
    """Do what the command line says and give the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.livepatches", description=__doc__)
    parser.add_argument("verb", choices=["build"])
    parser.add_argument("--kernel", metavar="RELEASE", help="the kernel to build for, as in uname -r")
    arguments = parser.parse_args()
    try:
        modules = build(arguments.kernel)
    except BuildError as error:
        print(f"test livepatches: {error}", file=sys.stderr)
        return 1
    for path in modules.values():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
