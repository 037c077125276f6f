# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of plain values: what is written is read back the same, and nothing that is read is worse than an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klpd.model import Finding, Installed, Leftover, Livepatch, Stack, StateChange, Verdict
from klpd.plain import PlainError, from_plain, to_plain
from klpd.report import JobReport, PlanReport, PolicyReport, Status, StepReport, Straggler

if TYPE_CHECKING:
    from klpd.plain import Plain

job_reports = st.builds(
    JobReport,
    steps=st.lists(st.from_type(StepReport), max_size=2).map(tuple),
    progress=st.floats(0, 1),
    stragglers=st.lists(st.builds(Straggler, since=st.none() | st.floats(allow_nan=False)), max_size=2).map(tuple),
)

VALUES: Final[dict[type, st.SearchStrategy[object]]] = {
    **{
        each: st.from_type(each)
        for each in (Livepatch, Installed, Leftover, Stack, StateChange, Finding, Verdict, PlanReport, PolicyReport)
    },
    JobReport: job_reports,
    Status: st.builds(Status, jobs=st.lists(job_reports, max_size=2).map(tuple)),
}

any_json: st.SearchStrategy[Plain | None] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

each_type = pytest.mark.parametrize("wanted", VALUES, ids=lambda each: each.__name__)


@each_type
@given(st.data())
@settings(max_examples=25)
def test_what_is_written_as_json_is_read_back_the_same(wanted: type, data: st.DataObject) -> None:
    value = data.draw(VALUES[wanted])
    assert from_plain(wanted, json.loads(json.dumps(to_plain(value)))) == value


@each_type
@given(any_json)
@settings(max_examples=25)
def test_any_json_gives_the_type_or_a_plain_error(wanted: type, plain: object) -> None:
    _read_or_refuse(wanted, plain)


@each_type
@given(st.data())
@settings(max_examples=40)
def test_a_value_damaged_anywhere_gives_the_type_or_a_plain_error(wanted: type, data: st.DataObject) -> None:
    _read_or_refuse(wanted, _damaged(to_plain(data.draw(VALUES[wanted])), data))


def _read_or_refuse(wanted: type, plain: object) -> None:
    try:
        value: object = from_plain(wanted, plain)
    except PlainError:
        return
    assert isinstance(value, wanted)
    assert from_plain(wanted, to_plain(value)) == value


def _damaged(plain: Plain, data: st.DataObject) -> object:
    """`plain` with one thing in it, however deep, that is anything or nothing at all."""
    if isinstance(plain, dict) and plain and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(plain)))
        if data.draw(st.booleans()):
            return {name: each for name, each in plain.items() if name != key}
        return {**plain, key: _damaged(plain[key], data)}
    if isinstance(plain, list) and plain and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(plain) - 1))
        return [*plain[:index], _damaged(plain[index], data), *plain[index + 1 :]]
    return data.draw(any_json)
