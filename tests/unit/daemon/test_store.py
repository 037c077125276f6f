# SPDX-License-Identifier: GPL-2.0-or-later
"""The store remembers livepatches by digest, and what was in force one after another."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.store import History, Member, Moment, Store
from klpd.errors import KlpdError
from klpd.model import Declaration, Load, Stack
from klpd.module import read_livepatch
from tests.builders import declares
from tests.unit.daemon.fake_kernel import livepatch
from tests.unit.module.compilers import example

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.model import Livepatch

DATA = b"the bytes of a module"


def stored(name: str, data: bytes = DATA) -> Livepatch:
    return livepatch(name, digest=hashlib.sha256(data).hexdigest())


def moment(*names: str) -> Moment:
    return Moment(tuple(Member(each, each) for each in names))


def test_what_was_added_is_there_again_after_a_restart(tmp_path: Path) -> None:
    one = stored("klp_one")
    first = Store(tmp_path)
    first.add(one, DATA)
    again = Store(tmp_path)
    assert again.find(one.digest) == one
    assert again.known("klp_one", "klp_one") == (one,)
    assert again.read(one.digest) == DATA


def test_what_a_manifest_declares_is_kept_until_another_says_otherwise(tmp_path: Path) -> None:
    one = stored("klp_one")
    by_one = replace(one, declared=declares({1: 1}, file="/lib/one.livepatch.toml"))
    by_other = replace(one, declared=declares({1: 1}, sticky=True, file="/lib/one.livepatch.toml"))
    store = Store(tmp_path)
    for added, kept in ((one, one), (by_one, by_one), (one, by_one), (by_other, by_other), (one, by_other)):
        store.add(added, DATA)
        assert store.find(one.digest) == kept
        assert [each.declared for each in store.livepatches] == [kept.declared]
    assert Store(tmp_path).find(one.digest) == by_other


def test_what_is_declared_is_kept_whatever_becomes_of_the_livepatch(tmp_path: Path) -> None:
    one = stored("klp_one")
    store = Store(tmp_path)
    store.declare(replace(one, declared=declares({1: 5})))
    store.declare(one)
    assert store.declared(one.digest) == declares({1: 5})
    assert store.find(one.digest) is None
    again = Store(tmp_path)
    again.add(one, DATA)
    assert again.find(one.digest) == replace(one, declared=declares({1: 5}))


def test_what_is_declared_outlives_the_livepatches_that_are_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(replace(stored("klp_one"), declared=declares({1: 5})), DATA)
    for number in range(40):
        store.add(stored(f"klp_{number}", b"%d" % number), b"%d" % number)
    assert Store(tmp_path).declared(stored("klp_one").digest) == declares({1: 5})


def test_a_livepatch_in_force_keeps_what_is_declared_of_it_beside_what_comes_later(tmp_path: Path) -> None:
    one = replace(stored("klp_one"), declared=declares({1: 1}, sticky=True))
    later = declares({2: 1}, file="/lib/one.livepatch.toml")
    store = Store(tmp_path)
    store.add(one, DATA)
    store.observe(Stack().after(Load(one)))
    store.add(replace(one, declared=later), DATA)
    assert store.declared(one.digest) == later + one.declared
    store.observe(Stack())
    store.add(replace(one, declared=later), DATA)
    assert store.declared(one.digest) == later


def test_a_better_reading_of_the_same_bytes_takes_the_place_of_the_former(tmp_path: Path) -> None:
    one = replace(stored("klp_one"), states=None, declared=declares({1: 1}))
    store = Store(tmp_path)
    store.add(one, DATA)
    store.add(replace(one, states=(), declared=Declaration()), DATA)
    assert store.find(one.digest) == replace(one, states=())


def test_bytes_are_there_before_they_are_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(stored("klp_one"), DATA)
    assert store.read(stored("klp_one").digest) == DATA


def test_bytes_that_were_changed_on_disk_are_not_given_out(tmp_path: Path) -> None:
    one = stored("klp_one")
    store = Store(tmp_path)
    store.add(one, DATA)
    (tmp_path / "livepatches" / f"{one.digest}.ko").write_bytes(b"others")
    with pytest.raises(KlpdError, match="does not have the digest of its name"):
        Store(tmp_path).read(one.digest)


def test_a_torn_description_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(stored("klp_one"), DATA)
    (description,) = (tmp_path / "livepatches").glob("*.json")
    description.write_text('{"name": "klp')
    assert Store(tmp_path).find(stored("klp_one").digest) is None


def test_old_livepatches_are_forgotten_but_not_those_in_the_history(tmp_path: Path) -> None:
    store = Store(tmp_path)
    needed = stored("klp_needed", b"needed")
    store.add(needed, b"needed")
    store.observe(Stack().after(Load(needed)))
    for number in range(40):
        store.add(stored(f"klp_{number}", b"%d" % number), b"%d" % number)
    left = {each.stem for each in (tmp_path / "livepatches").glob("*.ko")}
    assert needed.digest in left
    assert len(left) == 17


def test_the_history_outlives_a_restart(tmp_path: Path) -> None:
    one = stored("klp_one")
    Store(tmp_path).observe(Stack().after(Load(one)))
    assert Store(tmp_path).history.moments == (Moment(), Moment((Member("klp_one", one.digest),)))


def test_the_history_of_another_boot_is_none_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "history").write_text('{"boot_id": "another", "moments": [{"members": [{"name": "klp_one"}]}]}')
    assert Store(tmp_path).history.moments == (Moment(),)


def test_a_change_can_be_undone_also_where_it_led_to_what_was_there_before() -> None:
    disabled = History("boot").then(moment("one")).then(moment())
    assert disabled.before == moment("one")


def test_undoing_goes_further_back_each_time() -> None:
    history = History("boot").then(moment("one")).then(moment("two"))
    undone = history.set_out(undoing=True).then(moment("one")).arrived()
    assert undone.before == Moment()
    assert undone.set_out(undoing=True).then(moment()).arrived().before is None


def test_what_lies_on_a_way_back_is_no_moment_of_its_own() -> None:
    history = History("boot").then(moment("one")).then(moment("two")).set_out(undoing=True).then(moment())
    assert history.then(moment("one")).arrived() == History("boot").then(moment("one"))
    assert history.arrived().before == moment("two")  # it ended half way


def test_going_back_to_a_time_that_is_named_can_be_undone_itself() -> None:
    history = History("boot").then(moment("one")).then(moment("two"))
    back = history.set_out(undoing=False).then(moment()).then(moment("one")).arrived()
    assert back.before == moment("two")


def test_that_a_file_is_known_later_is_no_change() -> None:
    unknown = History("boot").then(Moment((Member("one"),)))
    known = unknown.then(moment("one"))
    assert known.moments == (Moment(), moment("one"))
    assert known.then(Moment((Member("one"),))) == known


def test_a_way_back_that_is_under_way_outlives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.observe(Stack().after(Load(stored("klp_one"))))
    store.set_out(undoing=True)
    again = Store(tmp_path)
    again.observe(Stack())
    assert again.history.moments == (Moment(),)


def test_nothing_was_before_the_beginning() -> None:
    assert History("boot").before is None


def test_the_last_time_at_which_a_livepatch_was_the_newest_is_found() -> None:
    history = History("boot").then(moment("one")).then(moment("one", "two")).then(moment("three"))
    assert history.newest("one") == moment("one")
    assert history.newest("two") == moment("one", "two")
    assert history.newest("three") is None


def test_a_livepatch_whose_file_was_never_seen_is_noted_without_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    unseen = replace(Stack().after(Load(stored("klp_one"))).livepatches[0], digest=None)
    store.observe(Stack(livepatches=(unseen,)))
    assert store.history.moments[-1] == Moment((Member("klp_one"),))


def test_a_moment_knows_with_which_parameters_klpd_loaded_what_was_in_force(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = stored("klp_one")
    for given in (("a=1",), (), ("a=2",)):
        store.loaded(one.digest, given)
        store.observe(Stack().after(Load(one)))
        store.observe(Stack())
    present = [each.members for each in Store(tmp_path).history.moments if each.members]
    assert [each.parameters for (each,) in present] == [("a=1",), (), ("a=2",)]


def test_a_livepatch_is_loaded_again_as_it_was_with_its_parameters(tmp_path: Path) -> None:
    data = example("x86_64", "PARAMETERS")
    anyhow = read_livepatch(data, file="example.ko")
    store = Store(tmp_path)
    store.add(anyhow, data)
    assert store.find(anyhow.digest) == anyhow
    for given, expected in (((), True), (("replace=0",), False)):
        livepatch = store.as_loaded(anyhow.digest, given)
        assert livepatch is not None
        assert (livepatch.replace, livepatch.parameters) == (expected, given)
