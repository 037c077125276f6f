# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what the demo needs and plays it in the test host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.livepatches.build import build
from tests.livepatches.headers import BuildError
from tests.vm import kernel
from tests.vm.cache import Cache, default_folder

SHOWN = ("klp_cmdline_v1", "klp_cmdline_v2", "klp_add", "klp_stuck", "klp_sticky", "klp_test_target")


def main() -> int:
    """Play the demo and give its exit status: 0 only if every step went as told."""
    here = Path(__file__).resolve().parent
    try:
        livepatches = build(release=kernel.release(Cache(default_folder()), kernel.STOCK))
    except BuildError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    files = [livepatches[name] for name in SHOWN] + [here / "play.py", here / "50-demo.toml"]
    copies = [part for file in files for part in ("--copy", str(file))]
    return subprocess.run(
        [sys.executable, "-m", "tests.vm", "run", "--tty", *copies, "--", "python3", "-I", "/root/play.py"],
        check=False,
        cwd=here.parents[1],
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
