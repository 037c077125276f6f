# SPDX-License-Identifier: GPL-2.0-or-later
"""What is fuzzed: a reader that takes anybody's bytes, what it may answer, and what it is begun with.

A target gives the bytes to its reader and returns.  The reader's documented errors are answers; any other exception
ends the run as a finding.
"""

from __future__ import annotations

import gzip
import lzma
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klpd import module
from klpd.errors import ModuleFormatError, PolicyError
from klpd.module import Kind
from klpd.policy import check_file
from klpd.policy.manifest import parse_manifest
from klpd.policy.read import read_files

MOST_SECONDS: Final = 1.0
"""Of processor time for one input, instrumented as the code is."""
_TOP: Final = Path(__file__).resolve().parents[2]
_MANIFESTS: Final = (
    b"""\
[livepatch]
sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
title = "A title"
fixes = ["CVE-2024-1086"]

[[state]]
id = 0x1001
version = 2
name = "console_loglevel"
sticky = true
restores = true
""",
    b'[livepatch]\nbuild-id = "4f3c"\nstateless = true\n',
)


@dataclass(frozen=True, slots=True)
class Target:
    """``run`` takes one input of at most ``largest`` bytes; ``seeds`` makes the first ones."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    largest: int


def timed(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """`run`, for which taking too long is an error, too."""

    def timed_run(data: bytes) -> None:
        began = time.process_time()
        try:
            run(data)
        except Exception:
            # libFuzzer's timer would kill a process that takes its time to end, before the input is kept.
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise
        if (took := time.process_time() - began) > MOST_SECONDS:
            raise AssertionError(f"{len(data)} bytes took {took:.1f} s")

    return timed_run


def read_module(data: bytes) -> None:
    """A file of the module tree, as the daemon and klpctl take it."""
    try:
        unpacked = module.unpack(data, file="some.ko")
    except ModuleFormatError:
        return
    kind = module.recognise(unpacked)
    try:
        module.read_livepatch(unpacked, file="some.ko")
    except ModuleFormatError:
        return
    if kind in (Kind.ORDINARY, Kind.NO_MODULE):
        raise AssertionError(f"a livepatch to the reader, and {kind} to what the guard goes by")


def read_policy(data: bytes) -> None:
    """A policy file: what `klpctl policy check` complains of, and what the daemon does."""
    with tempfile.NamedTemporaryFile() as opened:
        opened.write(data)
        opened.flush()
        file = Path(opened.name)
        complaints = check_file(file)
        try:
            read_files([file])
            taken = True
        except PolicyError:
            taken = False
    if taken == bool(complaints):
        raise AssertionError(f"the daemon {'takes' if taken else 'does not take'} it, and the check says {complaints}")


def read_manifest(data: bytes) -> None:
    """A manifest beside a livepatch."""
    with suppress(PolicyError):
        parse_manifest(data, "some.livepatch.toml")


def _modules() -> Iterator[bytes]:
    from tests.livepatches.build import build
    from tests.unit.module.compilers import COMPILERS, example

    files = [path.read_bytes() for path in build().values()]
    yield from files
    yield from (example(machine) for machine in COMPILERS)
    smallest = min(files, key=len)
    yield lzma.compress(smallest, check=lzma.CHECK_CRC32)
    yield gzip.compress(smallest)


def _policies() -> Iterator[bytes]:
    for pattern in ("*.toml", "examples/*.toml"):
        yield from (path.read_bytes() for path in sorted((_TOP / "policy").glob(pattern)))


TARGETS: Final = {
    "module": Target(read_module, _modules, 1 << 20),
    "policy": Target(read_policy, _policies, 1 << 14),
    "manifest": Target(read_manifest, lambda: iter(_MANIFESTS), 1 << 14),
}
