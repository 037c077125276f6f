# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for tests on a real kernel: each test gets hosts of its own, and each host a kernel that has just booted."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from tests.vm import boot as booting
from tests.vm.boot import Options
from tests.vm.errors import HarnessError
from tests.vm.kernel import STOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.vm.host import Host
    from tests.vm.kernel import Kernel

_HOSTS: Final = pytest.StashKey[list["Host"]]()
_REPORTED: Final = {
    "klpd's journal": "journalctl --no-pager --output short-precise --unit klpd --lines 100",
    "kernel log": "dmesg | tail --lines 60",
}


@pytest.fixture
def boot(request: pytest.FixtureRequest) -> Iterator[Callable[[Options], Host]]:
    """Starts hosts by options; they are switched off after the test."""
    hosts = request.node.stash.setdefault(_HOSTS, [])
    with ExitStack() as stack:

        def start(options: Options) -> Host:
            host = stack.enter_context(booting.boot(options))
            hosts.append(host)
            return host

        yield start


@pytest.fixture
def kernel() -> Kernel:
    """The kernel of ``host`` and ``bare_host``; tests.vm.marks.on_every_kernel has a test run on each."""
    return STOCK


@pytest.fixture
def host(boot: Callable[[Options], Host], kernel: Kernel) -> Host:
    """A host with klpd running."""
    return boot(Options(kernel=kernel))


@pytest.fixture
def bare_host(boot: Callable[[Options], Host], kernel: Kernel) -> Host:
    """A host with klpd installed, and stopped."""
    return boot(Options(kernel=kernel, klpd=False))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a host, and skip them where none can run."""
    reason = booting.unsupported()
    for item in items:
        if "boot" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.vm)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a failed test show what its hosts have to say."""
    report = yield
    if call.when == "call" and report.failed:
        hosts: list[Host] = item.stash.setdefault(_HOSTS, [])
        for number, host in enumerate(hosts, start=1):
            report.sections += [(f"host {number}: {title}", text) for title, text in _testimony(host)]
    return report


def _testimony(host: Host) -> Iterator[tuple[str, str]]:
    try:
        for title, command in _REPORTED.items():
            yield title, host.run(command, timeout=20).stdout
    except HarnessError as error:
        yield "it is gone", str(error)
