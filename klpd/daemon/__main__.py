# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd itself: `python3 -m klpd.daemon`, started by klpd.service."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from klpd import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop.  Returns the exit status."""
    parser = argparse.ArgumentParser(prog="klpd", description="Enforce livepatch policy on this machine.")
    parser.add_argument("--version", action="version", version=f"klpd {__version__}")
    parser.add_argument("--debug", action="store_true", help="log every verdict, and what else helps to find a fault")
    arguments = parser.parse_args(argv)

    from klpd.daemon.journal import Handler, Journal

    journal = Journal()
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO, handlers=[Handler(journal)], format="%(message)s"
    )
    from klpd.daemon.single import is_only_one

    if not is_only_one():
        logging.getLogger(__name__).error("another klpd runs already; see systemctl status klpd")
        return 1
    from klpd.daemon.wiring import Daemon

    return Daemon(journal).run()


if __name__ == "__main__":
    sys.exit(main())
