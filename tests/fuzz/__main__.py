# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzz a reader, guided by what its code does with the input: `python3 -m tests.fuzz TARGET --seconds 20`.

Ends with 0 after that time, and otherwise with a finding: its input is kept in build/fuzz/TARGET/found, and a traceback
tells what happened.  With files for arguments, only those are tried, each once.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

import atheris

# Before anything else imports them; what klpd imports late must be there as well.
with atheris.instrument_imports(include=["klpd", "tomllib", "asn1crypto"]):
    import asn1crypto.cms
    import asn1crypto.pem
    import asn1crypto.x509  # noqa: F401

    import klpd.module.zstd
    import klpd.policy.positions
    import klpd.policy.source  # noqa: F401
    from tests.fuzz.targets import TARGETS, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.targets import Target

MOST_MEMORY: Final = 512
"""In MiB, beside what the process has before it begins: libFuzzer, a module of 64 MiB unpacked and what that takes, and
the 64 MiB of klpd/module/reader.py."""
_STUCK: Final = 30  # seconds by the clock: a loop without an end, which never gets to be measured
_FUZZ: Final = Path(__file__).resolve().parents[2] / "build" / "fuzz"


def main() -> None:
    """Fuzz until the time is over or something is found."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz", description="Fuzz one of klpd's readers.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="*", type=Path, help="try only these")
    parser.add_argument("--seconds", type=int, default=20, help="how long (20)")
    options = parser.parse_args()
    target = TARGETS[options.target]
    folder = _FUZZ / options.target
    found, corpus = folder / "found", folder / "corpus"
    for each in (found, corpus):
        each.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    limits = [
        f"-max_total_time={options.seconds}",
        f"-max_len={target.largest}",
        "-rss_limit_mb=0",
        f"-timeout={_STUCK}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    arguments = ["tests.fuzz", *limits, *map(str, options.files or [corpus])]
    atheris.Setup(arguments, timed(target.run), **_mutators(target))
    _bound_memory()
    logging.disable()
    atheris.Fuzz()


def _mutators(target: Target) -> dict[str, Callable[..., bytes]]:
    """What makes new inputs, as atheris takes it."""

    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        return target.mutate(data, largest, seed, atheris.Mutate)

    return {"custom_mutator": mutate} | ({} if target.cross is None else {"custom_crossover": target.cross})


def _bound_memory() -> None:
    """libFuzzer's own bound goes by ru_maxrss, in which a process begins with what its parent had (getrusage(2))."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    bound = pages * resource.getpagesize() + (MOST_MEMORY << 20)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


if __name__ == "__main__":
    main()
