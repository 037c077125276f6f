# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints how much longer klpctl takes than an interpreter that does nothing: medians of runs taken in turn.

klpctl runs under the interpreter that runs this, on a bus of its own with a klpd that only plays one
(tests/unit/ctl/fake_klpd.py), so that the daemon's part is next to nothing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
ROUNDS: Final = 25
KLPCTL: Final = f"import sys; sys.path.insert(0, '{PROJECT}'); from klpd.ctl.__main__ import main; sys.exit(main())"
BARE: Final = "python3 -I -c pass"
COMMANDS: Final = {
    BARE: ("pass",),
    "klpctl --help": (KLPCTL, "--help"),
    "klpctl list --names": (KLPCTL, "list", "--names"),
    "klpctl status": (KLPCTL, "status"),
    "klpctl jobs": (KLPCTL, "jobs"),
}


def main() -> None:
    bus = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert bus.stdout is not None
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.stdout.readline().strip()}
    klpd = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.ctl.fake_klpd"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert klpd.stdout is not None
        klpd.stdout.readline()
        report(measured(environment))
    finally:
        for each in (klpd, bus):
            each.terminate()
            each.wait()


def measured(environment: dict[str, str]) -> dict[str, float]:
    """Command -> the median of its times, in seconds.  Each round runs all of them, so that noise meets all alike."""
    times: dict[str, list[float]] = {each: [] for each in COMMANDS}
    for _round in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, "-I", "-c", *arguments], env=environment, stdout=subprocess.DEVNULL, check=True
            )
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(each) for name, each in times.items()}


def report(medians: dict[str, float]) -> None:
    for name, median in medians.items():
        print(f"{name:<20} {median * 1000:6.1f} ms  {median / medians[BARE]:5.2f} x {BARE}")


if __name__ == "__main__":
    main()
