# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of asking: whoever judges the same bytes, with the same facts, comes to the same verdict."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from klpd.ctl.local import ThisMachine
from klpd.daemon.enforcement import Enforcement
from klpd.daemon.planning import Planning
from klpd.daemon.policies import Policies
from klpd.daemon.store import Store
from klpd.judge.rules import Manifest, Policy
from klpd.judge.ways import Gate, by_apply, gate_of
from klpd.kernel.mounts import lies_in
from klpd.layout import known_layout
from klpd.model import Declaration, Leftover, Load, Outcome, Stack, Surroundings
from klpd.module import read_livepatch
from klpd.remembered import read_remembered
from tests.livepatches.build import build
from tests.property.strategies import declarations, ids, policies, stacks, versions
from tests.unit.daemon.fake_kernel import FakeKernel

if TYPE_CHECKING:
    from typing import BinaryIO

    from klpd.errors import PolicyError
    from klpd.model import Livepatch
    from klpd.remembered import Remembered

FILES: Final = (
    "klp_add",
    "klp_add_stateless",
    "klp_allocated",
    "klp_callbacks",
    "klp_declared",
    "klp_kpatch_build",
    "klp_stateless",
)
NOBODY: Final = 65534


@dataclass(frozen=True)
class Case:
    """A file with the manifest beside it (None: there is none), and what else a verdict on it depends on.

    `remembered` is what a manifest declared before; `theirs`: the one beside it is not root's.
    """

    file: str
    stack: Stack
    policy: Policy
    manifest: dict[int, int] | None
    remembered: Declaration | None
    theirs: bool
    sticky: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    file = draw(st.sampled_from(FILES))
    livepatch = of(file)
    site = draw(st.none() | declarations)
    manifests = () if site is None else (Manifest("/etc/klpd/livepatches.d/x.toml", site, sha256=livepatch.digest),)
    stack = replace(draw(stacks()), kernel_release=livepatch.kernel_release)
    there = draw(st.sampled_from(["not", "not", "not", "left over", "kept", "in force"]))
    if there == "in force" and stack.transition is None:
        stack = stack.after(Load(livepatch))
    elif there in ("left over", "kept"):
        leftover = Leftover(livepatch.name, removable=there == "left over")
        stack = replace(stack, leftovers=(*stack.leftovers, leftover))
    return Case(
        file,
        stack,
        replace(draw(policies), manifests=manifests),
        draw(st.none() | st.dictionaries(ids, versions, max_size=2)),
        draw(st.none() | declarations),
        draw(st.sampled_from([False, False, True])),
        draw(st.booleans()),
    )


def of(file: str) -> Livepatch:
    return read_livepatch(build()[file].read_bytes(), file=file, layouts=known_layout)


class Alone(ThisMachine):
    """klpctl without klpd, on a machine that is as a case has it."""

    def __init__(self, case: Case, policy: Policy, store: Path) -> None:
        self._case = case
        self._its_policy = policy
        self._store = store

    def policy(self) -> Policy:
        return self._its_policy

    def _stack(self, policy: Policy | PolicyError) -> Stack:
        return self._case.stack

    def _surroundings(self, livepatch: Livepatch) -> Surroundings:
        return Surroundings()

    def _gate(self, policy: Policy) -> Gate:
        return gate(policy)

    @cached_property
    def _remembered(self) -> Remembered:
        return read_remembered(self._store)


def gate(policy: Policy) -> Gate:
    return gate_of(policy.mode, opened=False, guarded=Gate.CLOSED)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_check_apply_insmod_and_klpctl_alone_come_to_the_same_verdict(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _check(case, Path(folder))


def _check(case: Case, folder: Path) -> None:
    tree, state = folder / "tree", folder / "klpd"
    tree.mkdir()
    file, beside = tree / f"{case.file}.ko", tree / f"{case.file}.livepatch.toml"
    data = build()[case.file].read_bytes()
    file.write_bytes(data)
    if case.manifest is not None:
        _write(beside, of(case.file).digest, case)
    policy = replace(case.policy, directories=(str(tree),))
    before = Store(state)
    if case.remembered is not None:
        before.declare(replace(of(case.file), declared=case.remembered))
    alone = Alone(case, policy, state).assess(str(file))

    store, kernel = Store(state), FakeKernel({}, now=case.stack)
    policies = Policies(lambda: policy)
    policies.load()
    planning = Planning(
        kernel,
        policies,
        store,
        known_layout,
        lambda _livepatch, _data: None,
        watched=lambda fd: lies_in(fd, (tree,)),
        gate=lambda: gate(policy),
    )

    def opened(path: Path) -> list[tuple[BinaryIO, str]]:
        return [(path.open("rb"), str(path))] if path.exists() else []

    checked = planning.check((file.open("rb"), str(file)), opened(beside))
    assert checked == alone
    assert checked.apply is not None
    assert checked.insmod is not None
    assert checked.apply.outcome is by_apply(planning.apply(opened(file), opened(beside)), policy).outcome
    judged = Enforcement(kernel, lambda: policy, store, None, known_layout).judge(data, str(file), 1)
    assert judged is not None
    event(f"{checked.decision}: insmod {checked.insmod.outcome}, apply {checked.apply.outcome}")
    if judged.verdict is None:
        assert case.theirs
        assert checked.insmod.outcome in (Outcome.REFUSED, Outcome.LET_IN)
    else:
        assert (judged.verdict.decision, judged.verdict.findings) == (checked.decision, checked.findings)
        assert judged.obstructed is (checked.insmod.outcome in (Outcome.REFUSED, Outcome.UNKNOWN))


def _write(beside: Path, digest: str, case: Case) -> None:
    states = "".join(
        f"[[state]]\nid = {state}\nversion = {version}\nsticky = {str(case.sticky).lower()}\n"
        for state, version in (case.manifest or {}).items()
    )
    beside.write_text(f'[livepatch]\nsha256 = "{digest}"\n{states}')
    if case.theirs:
        os.chown(beside, NOBODY, NOBODY)
