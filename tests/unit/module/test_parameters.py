# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters: any value leaves unknown what they lead to, a given value decides it, and the file does where none is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klpd import module
from klpd.errors import UsageError
from klpd.model import State
from klpd.module.parameters import kernel_string
from tests.unit.module.compilers import COMPILERS, example

if TYPE_CHECKING:
    from klpd.model import Livepatch

SECOND = 0x1122334455667788
AS_IN_FILE = 0xFFFFFFFE


def read(*parameters: str, machine: str = "x86_64", macro: str = "PARAMETERS") -> Livepatch:
    """An example that has the parameters `a_version` (an unsigned int, of the second state) and `replace` (a bool)."""
    return module.read_livepatch(example(machine, macro), file="example.ko", parameters=parameters)


@pytest.mark.parametrize("machine", COMPILERS)
@pytest.mark.parametrize(
    ("parameters", "replace", "version"),
    [
        ((), True, AS_IN_FILE),
        (("replace=0",), False, AS_IN_FILE),
        (("replace=n", "a_version=7"), False, 7),
        (("a-version=0x10",), True, 16),
        (("a_version=017",), True, 15),
        (("a_version=4294967295", "replace=on"), True, 0xFFFFFFFF),
        (("dyndbg=+p", "replace=off"), False, AS_IN_FILE),
    ],
)
def test_what_is_given_decides(machine: str, parameters: tuple[str, ...], replace: bool, version: int) -> None:
    livepatch = read(*parameters, machine=machine)
    assert (livepatch.replace, livepatch.states) == (replace, (State(1, 0), State(SECOND, version)))
    assert livepatch.parameters == parameters


@pytest.mark.parametrize("machine", COMPILERS)
def test_whatever_is_given_leaves_it_unknown(machine: str) -> None:
    livepatch = module.read_livepatch(example(machine, "PARAMETERS"), file="example.ko")
    assert (livepatch.replace, livepatch.states, livepatch.parameters) == (None, None, None)


@pytest.mark.parametrize("macro", ["PARAMETER_ARRAY", "PARAMETER_OF_ITS_OWN"])
def test_what_is_no_plain_number_stays_unknown_where_it_is_given_and_only_there(macro: str) -> None:
    assert read("p=1", macro=macro).states is None
    assert read(macro=macro).states is not None


def test_code_that_makes_something_of_a_parameter_is_not_guessed_at() -> None:
    assert read("replace=0", macro="REPLACE_PARAMETER").replace is None


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        (("cumulative=1",), "example.ko: the module has no parameter cumulative; it has: a_version, replace"),
        (("replace=maybe",), "example.ko: replace=maybe: the kernel takes y, n, 1, 0, on and off"),
        (("replace=",), "example.ko: replace=: the kernel takes"),
        (("a_version=-1",), "example.ko: a_version=-1: that is no unsigned number"),
        (("a_version=1k",), "example.ko: a_version=1k: that is no unsigned number"),
        (("a_version=4294967296",), "example.ko: a_version=4294967296: the kernel keeps 4 bytes of it"),
        (("a_version=1", "a-version=2"), "example.ko: parameter a_version is given more than once"),
        (("a_version",), "example.ko: 'a_version' is no parameter; write NAME=VALUE"),
        (('replace="1"',), "example.ko: 'replace=\"1\"' is no parameter"),
        (("replace=1\0",), "is no parameter"),
    ],
)
def test_what_the_kernel_would_refuse_or_ignore_is_refused_before(parameters: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*parameters)
    assert complaint in str(caught.value)


@given(st.integers(0, (1 << 32) - 1), st.sampled_from(["{}", "{:#x}", "0{:o}", "+{}"]))
def test_every_number_is_read_as_the_kernel_reads_it(number: int, form: str) -> None:
    states = read(f"a_version={form.format(number)}").states
    assert states is not None
    assert states[1].version == number


def test_a_value_with_blanks_is_one_word_for_the_kernel() -> None:
    assert kernel_string(("a=1", "b=two words", "c=")) == 'a=1 b="two words" c='
