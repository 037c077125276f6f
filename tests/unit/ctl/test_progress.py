# SPDX-License-Identifier: GPL-2.0-or-later
"""How a job's progress is shown."""

from __future__ import annotations

import io

from klpd.ctl.progress import Events, LiveLine, PlainLines, live_text
from klpd.report import JobState, StepState, Straggler
from tests.unit.ctl.examples import job

PENDING, RUNNING, DONE, FAILED = StepState.PENDING, StepState.RUNNING, StepState.DONE, StepState.FAILED
SLEEPER = Straggler(pid=812, tid=812, command="sleeper")
CROWD = tuple(Straggler(each, each, f"task{each}") for each in range(1, 8))


def test_events_are_what_has_changed_between_reports() -> None:
    events = Events()
    assert events.of(job(JobState.WAITING)) == []
    assert events.of(job(JobState.RUNNING, RUNNING, PENDING)) == ["loading klp_v3 ..."]
    assert events.of(job(JobState.RUNNING, RUNNING, PENDING, progress=0.5)) == []
    assert events.of(job(JobState.RUNNING, DONE, RUNNING)) == ["loading klp_v3: done", "removing the module klp_v2 ..."]
    assert events.of(job(JobState.DONE, DONE, DONE)) == ["removing the module klp_v2: done"]


def test_a_reversal_and_what_klpd_says_of_it_are_events() -> None:
    events = Events()
    events.of(job(JobState.RUNNING, RUNNING))
    assert events.of(job(JobState.REVERSING, RUNNING, message="the reversal is refused")) == [
        "reversing the transition ...",
        "the reversal is refused",
    ]
    assert events.of(job(JobState.FAILED, FAILED, message="too long")) == ["loading klp_v3: failed"]


def test_without_a_terminal_a_transition_gets_a_line_for_each_tenth_and_each_change_of_few_stragglers() -> None:
    out = io.StringIO()
    display = PlainLines(out)
    display.report(job(JobState.RUNNING, RUNNING))
    for progress in (0.12, 0.13, 0.14, 0.2):
        display.report(job(JobState.RUNNING, RUNNING, progress=progress, stragglers=CROWD))
    for progress in (0.99, 0.99):
        display.report(job(JobState.RUNNING, RUNNING, progress=progress, stragglers=(SLEEPER,)))
    display.report(job(JobState.DONE, DONE, progress=1.0))
    display.close()
    crowd = "7 tasks left: 1 task1, 2 task2, 3 task3, 4 task4, ..."
    assert out.getvalue().splitlines() == [
        "loading klp_v3 ...",
        f"loading klp_v3: transition 12% ({crowd})",
        f"loading klp_v3: transition 20% ({crowd})",
        "loading klp_v3: transition 99% (1 task left: 812 sleeper)",
        "loading klp_v3: done",
    ]


def test_the_live_line_holds_the_step_a_bar_and_the_stragglers() -> None:
    report = job(JobState.RUNNING, RUNNING, progress=0.87, stragglers=(SLEEPER,))
    assert live_text(report, 100) == ("loading klp_v3 [#################...] transition 87% (1 task left: 812 sleeper)")


def test_the_live_line_never_exceeds_the_terminal() -> None:
    report = job(JobState.RUNNING, RUNNING, progress=0.87, stragglers=CROWD)
    assert len(live_text(report, 50)) == 50


def test_the_live_line_tells_that_a_transition_goes_back() -> None:
    assert live_text(job(JobState.REVERSING, RUNNING), 80) == "loading klp_v3, going back ..."


def test_the_live_line_tells_what_a_job_waits_for() -> None:
    assert live_text(job(JobState.WAITING), 80) == "waiting for its turn; klpctl jobs lists what comes before it"


def test_what_a_job_waits_for_is_told_once_where_no_terminal_is() -> None:
    out = io.StringIO()
    display = PlainLines(out)
    for _each in range(2):
        display.report(job(JobState.WAITING, message="waiting for job 3: apply klp_v1"))
    display.report(job(JobState.RUNNING, RUNNING))
    assert out.getvalue() == "waiting for job 3: apply klp_v1\nloading klp_v3 ...\n"
    assert live_text(job(JobState.WAITING, message="waiting for job 3"), 80) == "waiting for job 3"


def test_the_live_line_leaves_the_terminal_to_polkit() -> None:
    assert live_text(job(JobState.AUTHORIZING), 80) == ""


def test_the_lines_of_a_transition_that_goes_back_say_so() -> None:
    out = io.StringIO()
    PlainLines(out).report(job(JobState.REVERSING, DONE, RUNNING, progress=0.5, stragglers=(SLEEPER,)))
    assert out.getvalue().splitlines()[-1] == (
        "2/2 removing the module klp_v2, going back: transition 50% (1 task left: 812 sleeper)"
    )


def test_nothing_is_live_once_the_job_has_ended() -> None:
    assert live_text(job(JobState.FAILED, FAILED, progress=0.5, stragglers=(SLEEPER,)), 80) == ""


def test_the_command_of_a_task_cannot_move_the_cursor() -> None:
    hostile = (Straggler(1, 1, "\x1b[2J\r"),)
    report = job(JobState.RUNNING, RUNNING, progress=0.5, stragglers=hostile)
    out = io.StringIO()
    PlainLines(out).report(report)
    assert r"\x1b[2J\r" in live_text(report, 200)
    assert "\x1b" not in out.getvalue()


def screen(written: str) -> list[str]:
    """What a terminal shows of characters, of which only newlines and carriage returns move its cursor."""
    lines = [""]
    for row in written.split("\n"):
        shown = ""
        for piece in row.split("\r"):
            shown = piece + shown[len(piece) :]
        lines[-1] = shown.rstrip()
        lines.append("")
    return lines[:-1]


def test_a_terminal_keeps_what_has_happened_and_rewrites_what_goes_on() -> None:
    out = io.StringIO()
    display = LiveLine(out, 80)
    display.report(job(JobState.RUNNING, RUNNING, PENDING, progress=0.5, stragglers=CROWD))
    assert screen(out.getvalue())[-1].startswith("1/2 loading klp_v3 [##########..........] transition 50%")
    display.report(job(JobState.RUNNING, RUNNING, PENDING, progress=0.99, stragglers=(SLEEPER,)))
    display.note("a note")
    display.report(job(JobState.RUNNING, DONE, RUNNING))
    assert screen(out.getvalue()) == ["a note", "loading klp_v3: done", "2/2 removing the module klp_v2 ..."]
    display.report(job(JobState.DONE, DONE, DONE))
    display.close()
    assert screen(out.getvalue()) == ["a note", "loading klp_v3: done", "removing the module klp_v2: done", ""]
