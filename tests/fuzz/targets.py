# SPDX-License-Identifier: GPL-2.0-or-later
"""What is fuzzed: a reader that takes anybody's bytes, what it may answer, and what it is begun with.

A target gives the bytes to its reader and returns.  The reader's documented errors are answers; any other exception
ends the run as a finding.
"""

from __future__ import annotations

import functools
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd import module
from klpd.daemon.state_files import boot_id
from klpd.daemon.store import History, Member, Moment, Store
from klpd.daemon.unfinished import Unfinished
from klpd.errors import KlpdError, ModuleFormatError, PolicyError
from klpd.judge.planner import Plan
from klpd.judge.steps import Step
from klpd.model import Decision, Livepatch, Load, Remove, Verdict
from klpd.module.signature import read_signature
from klpd.plain import to_plain
from klpd.policy import check_file
from klpd.policy.certificates import certificate_files
from klpd.policy.convert import Misfit
from klpd.policy.manifest import parse_manifest
from klpd.policy.read import read_files
from klpd.policy.trust import trusting
from klpd.report import JobReport, JobState, StepReport, StepState
from tests.fuzz import certificate_mutator, elf_mutator, packed_mutator, signature_mutator, toml_mutator
from tests.fuzz.modules import small
from tests.fuzz.mutation import Crossing, Mutator
from tests.fuzz.oracles import check

if TYPE_CHECKING:
    from klpd.judge.rules import Verifier

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


_MEMORY: Final = "/dev/shm"
"""Where files that one input needs are written: a disk would be waited for."""
_KEYS: Final = _TOP / "build" / "fuzz" / "keys"
_SIGNED: Final = b"what is signed"
_DIGEST: Final = 64 * "0"
"""Of the livepatch in the file that the daemon is to have kept."""


@dataclass(frozen=True, slots=True)
class Target:
    """``run`` takes one input of at most ``largest`` bytes; ``seeds`` makes the first ones, and ``mutate`` others."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    largest: int
    mutate: Mutator
    cross: Crossing | None = None


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
        livepatch = module.read_livepatch(unpacked, file="some.ko")
    except ModuleFormatError:
        return
    check(livepatch, unpacked)


def read_policy(data: bytes) -> None:
    """A policy file: what `klpctl policy check` complains of, and what the daemon does."""
    with tempfile.NamedTemporaryFile(dir=_MEMORY) as opened:
        opened.write(data)
        opened.flush()
        file = Path(opened.name)
        complaints = check_file(file, owner=None).complaints
        try:
            read_files([file], owner=None)
            taken = True
        except PolicyError:
            taken = False
    if taken == bool(complaints):
        raise AssertionError(f"the daemon {'takes' if taken else 'does not take'} it, and the check says {complaints}")


def read_manifest(data: bytes) -> None:
    """A manifest beside a livepatch."""
    with suppress(PolicyError):
        parse_manifest(data, "some.livepatch.toml")


def read_signed(data: bytes) -> None:
    """A signature, and whether it is to be trusted: for what was signed, and nothing else."""
    try:
        signature = read_signature(data)
    except ModuleFormatError:
        return
    if _verifier()(signature).trusted and signature_mutator.split(data)[0] != _SIGNED:
        raise AssertionError("trusted for what was not signed")


def read_certificate(data: bytes) -> None:
    """A file of certificates that a policy names."""
    with tempfile.NamedTemporaryFile(dir=_MEMORY) as opened, suppress(Misfit):
        opened.write(data)
        opened.flush()
        certificate_files(opened.name, None)


def read_kept(data: bytes) -> None:
    """What the daemon kept in /var/lib/klpd, after a crash of the file system."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as name:
        folder = Path(name)
        (folder / "livepatches").mkdir()
        for file in ("history", "jobs", f"livepatches/{_DIGEST}.json", f"livepatches/{_DIGEST}.ko"):
            (folder / file).write_bytes(data)
        store = Store(folder)
        json.dumps(to_plain(store.history))
        for job in Unfinished(folder).jobs:
            with suppress(KlpdError):
                job.plan(store.as_loaded)


@functools.cache
def _keys() -> tuple[Path, ...]:
    """An RSA and an ECDSA key, made once: other ones would make other first inputs."""
    from tests.livepatches.signing import ECDSA, RSA

    _KEYS.mkdir(parents=True, exist_ok=True)
    return tuple(_key(_KEYS / f"{name}.pem", kind) for name, kind in (("rsa", RSA), ("ecdsa", ECDSA)))


def _key(path: Path, kind: tuple[str, ...]) -> Path:
    """The key in this file; where several make it at once, the first stays."""
    from tests.livepatches.signing import make_key

    with tempfile.TemporaryDirectory(dir=path.parent) as folder, suppress(FileExistsError):
        if not path.exists():
            path.hardlink_to(make_key(Path(folder) / path.name, path.stem, kind=kind))
    return path


@functools.cache
def _verifier() -> Verifier:
    return trusting(tuple(certificate_files(str(key), None) for key in _keys()))


def _modules() -> Iterator[bytes]:
    from tests.livepatches.build import build
    from tests.unit.module.compilers import COMPILERS, example
    from tests.unit.module.packing import PACK

    files = [small(path.read_bytes()) for path in build().values()]
    yield from files
    yield from (small(example(machine)) for machine in COMPILERS)
    smallest = min(files, key=len)
    yield from (smallest + each.removeprefix(_SIGNED) for each in _signed())
    yield from (pack(smallest) for pack in PACK.values())


def _policies() -> Iterator[bytes]:
    for pattern in ("*.toml", "examples/*.toml"):
        yield from (path.read_bytes() for path in sorted((_TOP / "policy").glob(pattern)))


def _signed() -> Iterator[bytes]:
    from tests.livepatches.signing import sign

    for key in _keys():
        for options in (("sha256",), ("sha512", "-k")):
            with tempfile.NamedTemporaryFile() as opened:
                file = Path(opened.name)
                file.write_bytes(_SIGNED)
                sign(file, key, *options)
                yield file.read_bytes()


def _certificates() -> Iterator[bytes]:
    from tests.livepatches.signing import certificate

    for key in _keys():
        yield from (certificate(key), certificate(key, "DER"))


def _kept() -> Iterator[bytes]:
    livepatch = Livepatch("klp_one", _DIGEST, 5000, replace=True, states=(), objects=())
    history = History(boot_id(), (Moment(), Moment((Member("klp_one", _DIGEST),))), (_DIGEST,))
    verdicts = [Verdict(action, "klp_one", Decision.ALLOW) for action in ("load", "remove")]
    steps = tuple(StepReport(each, StepState.RUNNING) for each in verdicts)
    plan = Plan("apply klp_one", (Step(Load(livepatch), verdicts[0]), Step(Remove("klp_one"), verdicts[1])))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Unfinished(folder).note(JobReport(7, "apply", plan.goal, JobState.RUNNING, steps, uid=0), plan)
        jobs = (folder / "jobs").read_bytes()
    yield from (json.dumps(to_plain(livepatch)).encode(), json.dumps(to_plain(history)).encode(), jobs)


def _toml(seeds: Callable[[], Iterator[bytes]]) -> Mutator:
    """A mutation by the words of the first inputs."""
    return functools.partial(toml_mutator.mutate, words=functools.cache(lambda: toml_mutator.words_of(seeds())))


TARGETS: Final = {
    "module": Target(read_module, _modules, 1 << 20, packed_mutator.mutate, elf_mutator.cross),
    "policy": Target(read_policy, _policies, 1 << 14, _toml(_policies)),
    "manifest": Target(read_manifest, lambda: iter(_MANIFESTS), 1 << 14, _toml(lambda: iter(_MANIFESTS))),
    "signature": Target(read_signed, _signed, 1 << 14, signature_mutator.mutate),
    "certificate": Target(read_certificate, _certificates, 1 << 14, certificate_mutator.mutate),
    "kept": Target(read_kept, _kept, 1 << 14, _toml(_kept)),
}
