# SPDX-License-Identifier: GPL-2.0-or-later
"""Command lines and what they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klpd import __version__
from klpd.ctl import requests
from klpd.ctl.cli import parse
from klpd.ctl.requests import Apply, Bare, CommandLine, Disable, Force, Perform, Plan, Remove, Revert
from klpd.ctl.since import since
from klpd.ctl.understand import words_of


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ("status", Bare.STATUS),
        ("list", requests.List(names=False)),
        ("list --names", requests.List(names=True)),
        ("inspect lp.ko", requests.Inspect("lp.ko")),
        ("diff old.ko new.ko", requests.Diff("old.ko", "new.ko")),
        ("check lp.ko", requests.Check("lp.ko")),
        ("approve lp.ko", requests.Approve("lp.ko", 600)),
        ("approve --for 2h lp.ko", requests.Approve("lp.ko", 7200)),
        ("approve --for 90 lp.ko", requests.Approve("lp.ko", 90)),
        ("approve lp.ko --for=0", requests.Approve("lp.ko", 0)),
        ("plan apply lp.ko", Plan(Apply(("lp.ko",)))),
        ("plan apply a.ko b.ko", Plan(Apply(("a.ko", "b.ko")))),
        ("plan disable klp_v1", Plan(Disable("klp_v1"))),
        ("plan remove klp_v1", Plan(Remove("klp_v1"))),
        ("plan force", Plan(Force(""))),
        ("plan revert", Plan(Revert(""))),
        ("plan revert --to original", Plan(Revert("original"))),
        ("apply lp.ko", Perform(Apply(("lp.ko",)), confirmed=True)),
        ("apply b.ko a.ko -", Perform(Apply(("b.ko", "a.ko", "-")), confirmed=True)),
        ("apply lp.ko a=1 b-c=", Perform(Apply(("lp.ko",), (("a=1", "b-c="),)), confirmed=True)),
        ("apply a.ko ./b=1 x=2 c/d=3", Perform(Apply(("a.ko", "./b=1", "c/d=3"), ((), ("x=2",), ())), confirmed=True)),
        ("plan apply a.ko b.ko x=2", Plan(Apply(("a.ko", "b.ko"), ((), ("x=2",))))),
        ("apply a=1", Perform(Apply(("a=1",)), confirmed=True)),
        ("disable klp_v1", Perform(Disable("klp_v1"), confirmed=True)),
        ("remove klp_v1", Perform(Remove("klp_v1"), confirmed=True)),
        ("revert", Perform(Revert(""), confirmed=False)),
        ("revert --to klp_v1 -y", Perform(Revert("klp_v1"), confirmed=True)),
        ("force", Perform(Force(""), confirmed=False)),
        ("force --yes klp_v1", Perform(Force("klp_v1"), confirmed=True)),
        ("blockers", requests.Blockers(follow=False)),
        ("blockers -f", requests.Blockers(follow=True)),
        ("jobs", Bare.JOBS),
        ("wait 7", requests.Wait(7)),
        ("log", requests.Log(50, None, follow=False)),
        ("log -n 3 -f", requests.Log(3, None, follow=True)),
        ("log --since 2026-03-01T00:00:00+00:00", requests.Log(None, 1772323200.0, follow=False)),
        ("policy check", requests.PolicyCheck(())),
        ("policy check a.toml b.toml", requests.PolicyCheck(("a.toml", "b.toml"))),
        ("policy check --unsafe a.toml", requests.PolicyCheck(("a.toml",), unsafe=True)),
        ("policy cat", Bare.POLICY_CAT),
        ("manifest new lp.ko", requests.ManifestNew("lp.ko", "")),
        ("manifest new lp.ko -o lp.toml", requests.ManifestNew("lp.ko", "lp.toml")),
        ("manifest check", requests.ManifestCheck("", "")),
        ("manifest check lp.toml", requests.ManifestCheck("lp.toml", "")),
        ("manifest check lp.toml lp.ko", requests.ManifestCheck("lp.toml", "lp.ko")),
        ("reload", Bare.RELOAD),
        ("guard status", Bare.GUARD_STATUS),
        ("guard open", Bare.GUARD_OPEN),
        ("guard close", Bare.GUARD_CLOSE),
    ],
)
def test_commands(words: str, request_: requests.Request) -> None:
    assert parse(words.split()) == CommandLine(request_)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
FILES = st.lists(TEXTS, min_size=1).map(tuple)
WORDS = st.from_regex(r"[a-z][a-z_-]*=[ -~]*", fullmatch=True)
PLAIN = TEXTS.filter(lambda each: "=" not in each)
LOADED = st.lists(st.tuples(PLAIN, st.lists(WORDS).map(tuple)), min_size=1).map(
    lambda files: Apply(
        tuple(file for file, _given in files),
        tuple(given for _file, given in files) if any(given for _file, given in files) else (),
    )
)
CHANGES = st.one_of(
    LOADED,
    st.builds(Disable, TEXTS),
    st.builds(Remove, TEXTS),
    st.builds(Revert, st.just("") | TEXTS),
    st.builds(Force, st.just("") | TEXTS),
)
TIMES = st.integers(0, 1 << 32).map(float)
REQUESTS = st.one_of(
    st.sampled_from(Bare),
    st.builds(requests.List, st.booleans()),
    st.builds(requests.Inspect, TEXTS),
    st.builds(requests.Check, TEXTS),
    st.builds(Plan, CHANGES),
    CHANGES.flatmap(
        lambda change: st.builds(
            Perform, st.just(change), st.booleans() if isinstance(change, Revert | Force) else st.just(value=True)
        )
    ),
    st.builds(requests.Approve, TEXTS, st.integers(0, 7 * 86400)),
    st.builds(requests.Blockers, st.booleans()),
    st.builds(requests.Wait, st.integers(0)),
    st.builds(requests.Log, st.integers(0), st.none() | TIMES, st.booleans()),
    st.builds(requests.Log, st.none(), TIMES, st.booleans()),
    st.builds(requests.PolicyCheck, st.just(()) | FILES, st.booleans()),
    st.builds(requests.ManifestNew, TEXTS, st.just("") | TEXTS),
    st.builds(requests.ManifestCheck, TEXTS, st.just("") | TEXTS) | st.just(requests.ManifestCheck("", "")),
)


@given(REQUESTS)
def test_the_words_of_a_request_ask_for_it(request_: requests.Request) -> None:
    assert parse(words_of(request_)).request == request_


@pytest.mark.parametrize("name", ["klp-fix", "klp-fix.ko", "./klp-fix.ko.xz", "/var/lib/kpatch/klp-fix.ko.zst"])
@pytest.mark.parametrize("command", ["disable", "remove", "force", "revert --to", "plan disable"])
def test_a_modules_file_stands_for_the_livepatch_that_comes_of_it(command: str, name: str) -> None:
    assert parse([*command.split(), name]) == parse([*command.split(), "klp-fix"])


@pytest.mark.parametrize("words", ["-H root@example.org status", "status --host=root@example.org"])
def test_another_host_may_be_named(words: str) -> None:
    assert parse(words.split()) == CommandLine(Bare.STATUS, host="root@example.org")


def test_nobody_need_be_asked_for_a_password() -> None:
    assert not parse(["apply", "lp.ko", "--no-ask-password"]).ask_password


@pytest.mark.parametrize("words", ["--json status", "status --json", "--debug --json status"])
def test_general_options_stand_before_or_after_the_command(words: str) -> None:
    assert parse(words.split()).json


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "COMMAND"),
        ("frobnicate", "invalid choice: 'frobnicate'"),
        ("apply", "FILE"),
        ("plan", "COMMAND"),
        ("wait job", "'job' is no job"),
        ("--host= status", "'' is no host"),
        ("--host=-oProxyCommand=reboot status", "is no host"),
        ("approve", "FILE"),
        ("approve --for soon lp.ko", "'soon' is no span of time"),
        ("approve --for '2h ago' lp.ko", "is no span of time"),
        ("approve --for 8d lp.ko", "8d is too long"),
        ("log -n -1", "-n"),
        ("log -n few", "'few' is no number of entries"),
        ("log --since soon", "'soon' is no time"),
    ],
)
def test_what_is_not_understood_ends_with_2_and_says_what(
    words: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words.split())
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"klpctl {__version__}\n"


NOW = datetime(2026, 3, 2, 15, 30, 20, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("today", datetime(2026, 3, 1, 22, tzinfo=UTC)),
        ("yesterday", datetime(2026, 2, 28, 22, tzinfo=UTC)),
        ("90s", datetime(2026, 3, 2, 13, 28, 50, tzinfo=UTC)),
        ("10min", datetime(2026, 3, 2, 13, 20, 20, tzinfo=UTC)),
        ("2h ago", datetime(2026, 3, 2, 11, 30, 20, tzinfo=UTC)),
        ("3 days ago", datetime(2026, 2, 27, 13, 30, 20, tzinfo=UTC)),
        ("2026-03-01T14:00:00Z", datetime(2026, 3, 1, 14, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1).astimezone()),
    ],
)
def test_times(text: str, time: datetime) -> None:
    assert since(text, NOW) == time.timestamp()


@pytest.mark.parametrize("text", ["", "soon", "2x", "2026-13-01"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="is no time; use 2026-03-01"):
        since(text, NOW)
