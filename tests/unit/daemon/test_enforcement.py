# SPDX-License-Identifier: GPL-2.0-or-later
"""From a file's bytes to what the guard is told that it may let in."""

from __future__ import annotations

import errno
import gzip
import hashlib
import lzma
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from klpd import module
from klpd.daemon.enforcement import Enforcement
from klpd.daemon.store import Store
from klpd.errors import KernelError, ModuleFormatError
from klpd.judge.rules import Comparison, Mode, Permission, Ruling, StateRule, VersionRange, builtin_policy
from klpd.kernel.guard_abi import ANY_LIVEPATCH, Attribute, GuardPermission, GuardVerdict, Permit
from klpd.layout import known_layout
from klpd.model import Circumstances, Decision, Stack, Surroundings
from tests import builders
from tests.builders import denying, installed, sticky
from tests.guard_model import GuardModel
from tests.livepatches.build import build
from tests.unit.daemon.fake_kernel import FakeKernel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.enforcement import Judged
    from klpd.judge.rules import Policy

DENY_ALL = builtin_policy("a test")
ALLOW_ALL = replace(DENY_ALL, default=Ruling(Permission.ALLOW, DENY_ALL.default.rule))


NO, ALWAYS = Permit.NO, Permit.ALWAYS
STATES: Final = (installed("klp_sticky", {1: 1}), installed("klp_free"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file root's")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in build().items()}


def release_of_files(files: dict[str, bytes]) -> str:
    return module.read_livepatch(files["klp_add"], file="klp_add.ko").kernel_release


@pytest.fixture
def approved() -> GuardModel:
    return GuardModel()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def enforcement(files: dict[str, bytes], store: Store, approved: GuardModel) -> Enforcement:
    return enforcing(ALLOW_ALL, files, store, approved)


def enforcing(
    policy: Policy | Callable[[], Policy],
    files: dict[str, bytes],
    store: Store,
    approved: GuardModel,
    on_look: Callable[[int], None] = lambda _looks: None,
) -> Enforcement:
    kernel = FakeKernel({}, on_look=on_look)
    livepatch = module.read_livepatch(files["klp_add"], file="klp_add.ko")
    kernel.now = replace(
        kernel.now, kernel_release=livepatch.kernel_release, generation=approved.generation(), epoch=approved.epoch()
    )
    read = policy if callable(policy) else lambda: policy
    return Enforcement(kernel, read, store, approved, known_layout)


def enforced(judged: Judged | None) -> Judged:
    assert judged is not None
    return judged


def test_a_livepatch_that_is_allowed_is_approved_and_kept(
    enforcement: Enforcement, store: Store, approved: GuardModel, files: dict[str, bytes]
) -> None:
    data = files["klp_add"]
    assert enforcement.examine(data, "klp_add.ko", 1)
    assert approved.digests == [hashlib.sha256(data).digest()]
    assert store.read(hashlib.sha256(data).hexdigest()) == data


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_a_compressed_livepatch_is_approved_by_what_it_unpacks_to(
    enforcement: Enforcement,
    store: Store,
    approved: GuardModel,
    files: dict[str, bytes],
    pack: Callable[[bytes], bytes],
) -> None:
    data = files["klp_add"]
    assert enforcement.examine(pack(data), "klp_add.ko.packed", 1)
    assert approved.digests == [hashlib.sha256(data).digest()]
    assert store.read(hashlib.sha256(data).hexdigest()) == data


def test_a_livepatch_that_is_denied_is_not_approved_and_the_verdict_remembered(
    store: Store, approved: GuardModel, files: dict[str, bytes]
) -> None:
    data = files["klp_add"]
    enforcement = enforcing(DENY_ALL, files, store, approved)
    assert enforcement.examine(data, "klp_add.ko", 1)
    assert approved.digests == []
    judged = enforcement.judged(hashlib.sha256(data).hexdigest())
    assert judged is not None
    assert judged.verdict is not None
    assert judged.verdict.decision is Decision.DENY


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
def test_an_ordinary_module_is_let_alone(
    enforcement: Enforcement, approved: GuardModel, files: dict[str, bytes], pack: Callable[[bytes], bytes]
) -> None:
    assert not enforcement.examine(pack(files["klp_ordinary"]), "klp_ordinary.ko", 1)
    assert approved.digests == []


def test_what_the_guard_takes_for_a_livepatch_and_cannot_be_read_is_remembered_with_the_reason(
    enforcement: Enforcement, approved: GuardModel, files: dict[str, bytes]
) -> None:
    data = files["klp_add"][:1000]
    assert enforcement.examine(data, "klp_add.ko", 1)
    assert approved.digests == []
    judged = enforcement.judged(hashlib.sha256(data).hexdigest())
    assert judged is not None
    assert judged.verdict is None
    assert (judged.unreadable or "").startswith("klp_add.ko: ")


@pytest.mark.parametrize(("mode", "obstructed"), [(Mode.ENFORCE, True), (Mode.AUDIT, False)])
def test_what_cannot_be_judged_is_obstructed_where_the_policy_is_enforced(
    store: Store, approved: GuardModel, files: dict[str, bytes], *, mode: Mode, obstructed: bool
) -> None:
    enforcement = enforcing(replace(ALLOW_ALL, mode=mode), files, store, approved)
    judged = enforcement.judge(files["klp_add"][:1000], "klp_add.ko", 1)
    assert judged is not None
    assert (judged.obstructed, judged.allowed) == (obstructed, False)


def test_where_the_stack_cannot_be_read_a_livepatch_is_not_approved_and_the_reason_remembered(
    store: Store, approved: GuardModel, files: dict[str, bytes]
) -> None:
    def fail(_looks: int) -> None:
        raise KernelError("cannot read /sys/kernel/livepatch", errno.EIO)

    kernel = FakeKernel({}, on_look=fail)
    judged = Enforcement(kernel, lambda: ALLOW_ALL, store, approved, known_layout).judge(
        files["klp_add"], "klp_add.ko", 1
    )
    assert judged is not None
    assert (judged.verdict, judged.obstructed, approved.digests) == (None, True, [])
    assert judged.unreadable == "cannot read /sys/kernel/livepatch: Input/output error"


@pytest.fixture
def beside(tmp_path: Path, files: dict[str, bytes]) -> Callable[[str], str]:
    """Puts klp_allocated.ko there with a manifest that has this text behind its binding; the path of the module."""

    def put(text: str) -> str:
        digest = hashlib.sha256(files["klp_allocated"]).hexdigest()
        (tmp_path / "klp_allocated.livepatch.toml").write_text(f'[livepatch]\nsha256 = "{digest}"\n{text}')
        return str(tmp_path / "klp_allocated.ko")

    return put


@as_root
def test_what_the_manifest_beside_a_file_declares_counts_and_is_kept(
    store: Store, approved: GuardModel, files: dict[str, bytes], beside: Callable[[str], str]
) -> None:
    enforcement = enforcing(builders.policy(unknown_states=denying()), files, store, approved)
    data = files["klp_allocated"]
    assert not enforced(enforcement.judge(data, "/nowhere/klp_allocated.ko", 1)).allowed
    judged = enforced(enforcement.judge(data, beside("[[state]]\nid = 7\nversion = 2\n"), 1))
    assert judged.allowed
    assert approved.digests == [hashlib.sha256(data).digest()]
    (kept,) = store.livepatches
    assert [(each.id, each.version) for each in kept.declared.states or ()] == [(7, 2)]


@as_root
@pytest.mark.parametrize("permission", [builders.allowing(), denying()], ids=["let in", "never let in"])
def test_what_a_manifest_declared_holds_when_it_is_taken_away(
    store: Store,
    approved: GuardModel,
    files: dict[str, bytes],
    beside: Callable[[str], str],
    permission: Ruling,
) -> None:
    data, low = files["klp_allocated"], StateRule(7, denying().rule, versions=VersionRange(((Comparison.LESS, 2),)))
    enforcing(builders.policy(default=permission), files, store, approved).judge(
        data, beside("[[state]]\nid = 7\nversion = 2\n"), 1
    )
    judged = enforced(
        enforcing(builders.policy(low), files, store, approved).judge(data, "/nowhere/klp_allocated.ko", 1)
    )
    assert judged.obstructed
    assert judged.verdict is not None
    assert [each.code for each in judged.verdict.reasons] == ["state-version"]


@as_root
def test_a_livepatch_whose_manifest_does_not_check_is_not_approved_and_the_place_remembered(
    enforcement: Enforcement, approved: GuardModel, files: dict[str, bytes], beside: Callable[[str], str]
) -> None:
    file = beside("[[state]]\nid = 0\nversion = 2\n")
    judged = enforced(enforcement.judge(files["klp_allocated"], file, 1))
    assert (judged.verdict, judged.obstructed, approved.digests) == (None, True, [])
    assert (judged.unreadable or "").startswith(f"{file.removesuffix('.ko')}.livepatch.toml:4:6: id: ")


@as_root
def test_nobody_may_write_unasked_once_a_livepatch_may_come_that_is_declared_sticky(
    store: Store, approved: GuardModel, files: dict[str, bytes], beside: Callable[[str], str]
) -> None:
    enforcement = enforcing(builders.policy(), files, store, approved)
    enforcement.permit(Stack(STATES, generation=7))
    others = {name: each for name, each in approved.permissions.items() if name != ANY_LIVEPATCH}
    assert approved.permissions[ANY_LIVEPATCH] == GuardPermission(0, enabled=ALWAYS, force=ALWAYS)
    enforcement.judge(files["klp_allocated"], beside("[[state]]\nid = 7\nversion = 2\nsticky = true\n"), 1)
    nobody = GuardPermission(0, enabled=NO, force=ALWAYS)
    assert approved.permissions == {**others, "klp_allocated": nobody, ANY_LIVEPATCH: nobody}
    enforcement.permit(Stack(STATES, generation=8))
    assert approved.permissions[ANY_LIVEPATCH].enabled is NO


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_an_approval_is_for_the_process_that_opened_the_file(
    enforcement: Enforcement, approved: GuardModel, files: dict[str, bytes]
) -> None:
    assert enforced(enforcement.judge(files["klp_add"], "klp_add.ko", 7)).allowed
    assert approved.load(digest_of(files["klp_add"]), 8) is GuardVerdict.UNAPPROVED
    assert approved.load(digest_of(files["klp_add"]), 7) is GuardVerdict.ALLOWED


def test_the_verdict_behind_an_approval_is_found_by_its_token_whatever_was_judged_since(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    policy = [ALLOW_ALL]
    enforcement = enforcing(lambda: policy[0], files, store, approved)
    data = files["klp_add"]
    enforcement.judge(data, "klp_add.ko", 7)
    (approval,) = approved.approvals.values()
    policy[0] = DENY_ALL
    enforcement.judge(data, "other.ko", 8)
    assert enforced(enforcement.judged(digest_of(data).hex(), approval.token)).allowed
    assert enforced(enforcement.judged(digest_of(data).hex())).file == "other.ko"


def test_a_veto_takes_back_all_approvals_of_the_same_bytes(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    policy = [ALLOW_ALL]
    enforcement = enforcing(lambda: policy[0], files, store, approved)
    for process in (7, 8):
        enforcement.judge(files["klp_add"], "klp_add.ko", process)
    policy[0] = DENY_ALL
    enforcement.judge(files["klp_add"], "klp_add.ko", 9)
    assert approved.approvals == {}


def test_an_approval_in_audit_mode_says_that_rules_deny_it(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    enforcement = enforcing(replace(DENY_ALL, mode=Mode.AUDIT), files, store, approved)
    enforcement.judge(files["klp_add"], "klp_add.ko", 7)
    assert approved.load(digest_of(files["klp_add"]), 7) is GuardVerdict.AUDITED


def test_a_verdict_that_something_overtook_is_judged_anew(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    policy = [ALLOW_ALL]

    def reload_meanwhile(looks: int) -> None:
        if looks == 1:
            approved.next_epoch()
            policy[0] = DENY_ALL

    enforcement = enforcing(lambda: policy[0], files, store, approved, on_look=reload_meanwhile)
    assert enforced(enforcement.judge(files["klp_add"], "klp_add.ko", 7)).obstructed
    assert approved.load(digest_of(files["klp_add"]), 7) is GuardVerdict.UNAPPROVED


def test_a_verdict_holds_for_the_next_process_as_long_as_nothing_has_changed(
    enforcement: Enforcement, approved: GuardModel, files: dict[str, bytes]
) -> None:
    judged = enforced(enforcement.judge(files["klp_add"], "klp_add.ko", 7))
    assert enforcement.renew(judged, "klp_add.ko", 8)
    assert approved.load(digest_of(files["klp_add"]), 8) is GuardVerdict.ALLOWED
    approved.next_epoch()
    assert not enforcement.renew(judged, "klp_add.ko", 9)
    assert approved.load(digest_of(files["klp_add"]), 9) is GuardVerdict.UNAPPROVED


def test_a_verdict_holds_no_more_once_the_stack_has_changed(
    enforcement: Enforcement, approved: GuardModel, files: dict[str, bytes]
) -> None:
    judged = enforced(enforcement.judge(files["klp_add"], "klp_add.ko", 7))
    approved.present_generation += 1
    assert not enforcement.renew(judged, "klp_add.ko", 8)


def test_a_verdict_holds_no_more_once_something_else_in_the_kernel_has_changed(
    store: Store, approved: GuardModel, files: dict[str, bytes]
) -> None:
    kernel = FakeKernel({}, now=Stack(kernel_release=release_of_files(files), epoch=approved.epoch()))
    enforcement = Enforcement(kernel, lambda: ALLOW_ALL, store, approved, known_layout)
    judged = enforced(enforcement.judge(files["klp_add"], "klp_add.ko", 7))
    kernel.around = Surroundings(Circumstances(ftrace=True))
    assert not enforcement.renew(judged, "klp_add.ko", 8)


def test_a_refusal_for_what_may_be_gone_in_a_moment_is_judged_anew_each_time(
    store: Store, approved: GuardModel, files: dict[str, bytes]
) -> None:
    kernel = FakeKernel({}, now=Stack(kernel_release=release_of_files(files), epoch=approved.epoch()))
    kernel.around = Surroundings(Circumstances(ftrace=False))
    enforcement = Enforcement(kernel, lambda: ALLOW_ALL, store, approved, known_layout)
    judged = enforced(enforcement.judge(files["klp_add"], "klp_add.ko", 7))
    assert judged.verdict is not None
    assert [each.code for each in judged.verdict.reasons] == ["tracing-off"]
    assert not enforcement.renew(judged, "klp_add.ko", 7)
    kernel.around = Surroundings(Circumstances(ftrace=True))
    assert enforced(enforcement.judge(files["klp_add"], "klp_add.ko", 7)).allowed


@as_root
def test_a_verdict_holds_no_more_once_there_is_a_manifest(
    store: Store, approved: GuardModel, files: dict[str, bytes], beside: Callable[[str], str], tmp_path: Path
) -> None:
    enforcement = enforcing(builders.policy(), files, store, approved)
    file = str(tmp_path / "klp_allocated.ko")
    judged = enforced(enforcement.judge(files["klp_allocated"], file, 7))
    assert enforcement.renew(judged, file, 8)
    beside("[[state]]\nid = 7\nversion = 2\n")
    assert not enforcement.renew(judged, file, 9)


def test_what_cannot_be_unpacked_cannot_be_told(enforcement: Enforcement, files: dict[str, bytes]) -> None:
    with pytest.raises(ModuleFormatError, match=r"klp_add\.ko\.xz: .*truncated"):
        enforcement.examine(lzma.compress(files["klp_add"])[:1000], "klp_add.ko.xz", 1)


def test_the_guard_is_told_what_may_be_written_to_each_livepatch_of_this_stack(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    enforcing(builders.policy(sticky(1), force=denying()), files, store, approved).permit(Stack(STATES, generation=7))
    assert approved.permissions == {
        "klp_sticky": GuardPermission(7, enabled=NO, force=NO),
        "klp_free": GuardPermission(7, enabled=ALWAYS, force=NO),
        ANY_LIVEPATCH: GuardPermission(0, enabled=NO, force=NO),
    }


def test_what_depends_on_others_in_the_stack_is_permitted_for_this_one(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    both = (installed("klp_v1", {1: 1}), installed("klp_v2", {1: 1}))
    enforcing(builders.policy(sticky(1)), files, store, approved).permit(Stack(both, generation=7))
    assert [approved.permissions[each.name].enabled for each in both] == [Permit.NOW] * 2


def test_who_may_go_whatever_the_stack_may_do_so_from_the_moment_that_it_comes(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    enforcement = enforcing(replace(ALLOW_ALL, states={7: sticky(7)}), files, store, approved)
    enforcement.permit(Stack(STATES, generation=7))
    assert enforced(enforcement.judge(files["klp_add_stateless"], "klp_add_stateless.ko", 1)).allowed
    assert approved.permissions["klp_add_stateless"] == GuardPermission(0, enabled=ALWAYS, force=NO)
    enforcement.withdraw_permissions()
    assert approved.permissions["klp_add_stateless"].enabled is ALWAYS


def test_a_name_by_which_several_may_come_is_as_free_as_the_least_of_them(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    enforcement = enforcing(replace(ALLOW_ALL, states={7: sticky(7)}), files, store, approved)
    enforcement.permit(Stack((installed("klp_add_stateless", {7: 1}),), generation=7))
    assert enforced(enforcement.judge(files["klp_add_stateless"], "klp_add_stateless.ko", 1)).allowed
    assert approved.permissions["klp_add_stateless"] == GuardPermission(7, enabled=NO, force=NO)
    enforcement.withdraw_permissions()
    assert approved.permissions["klp_add_stateless"].enabled is ALWAYS


def test_a_policy_that_objects_to_nothing_permits_it_for_any_stack(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    enforcing(builders.policy(), files, store, approved).permit(Stack())
    assert approved.permissions == {ANY_LIVEPATCH: GuardPermission(0, enabled=ALWAYS, force=ALWAYS)}


def test_a_transition_that_must_not_be_reversed_is_nobodys_to_reverse(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    moving = (installed("klp_v1", {1: 1}), installed("klp_v2", {1: 2}, replace=True, transition=True))
    enforcing(builders.policy(), files, store, approved).permit(Stack(moving, generation=7, epoch=1))
    assert approved.permissions["klp_v2"] == GuardPermission(7, enabled=NO, force=ALWAYS)
    approved.present_generation = 7
    assert approved.write("klp_v2", Attribute.ENABLED) is GuardVerdict.FORBIDDEN
    assert approved.write("klp_other", Attribute.ENABLED) is GuardVerdict.ALLOWED


def test_nothing_that_depends_on_the_stack_is_permitted_while_that_is_not_steady(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    both = (installed("klp_v1", {1: 1}), installed("klp_v2", {1: 1}))
    enforcing(builders.policy(sticky(1)), files, store, approved).permit(
        Stack(both, generation=1, epoch=1, steady=False)
    )
    assert approved.write("klp_v1", Attribute.ENABLED) is GuardVerdict.STALE


def test_withdrawn_permissions_are_none(files: dict[str, bytes], store: Store, approved: GuardModel) -> None:
    enforcement = enforcing(builders.policy(sticky(1)), files, store, approved)
    enforcement.permit(Stack(STATES, generation=7))
    enforcement.withdraw_permissions()
    assert list(approved.permissions) == [ANY_LIVEPATCH]


def test_the_verdict_behind_a_permission_is_remembered(
    files: dict[str, bytes], store: Store, approved: GuardModel
) -> None:
    enforcement = enforcing(builders.policy(sticky(1)), files, store, approved)
    enforcement.permit(Stack(STATES, generation=7))
    verdict = enforcement.write_judged("klp_sticky", Attribute.ENABLED, 7)
    assert verdict is not None
    assert (verdict.action, verdict.decision) == ("disable", Decision.DENY)
    assert enforcement.write_judged("klp_nonesuch", Attribute.ENABLED, 7) is None
