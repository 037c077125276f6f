# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own selftests of livepatching, from Debian's package of its source: nothing of them is kept here.

They are tools/testing/selftests/livepatch and the modules of lib/livepatch.  Debian's kernels come without those
modules (CONFIG_TEST_LIVEPATCH), so they are built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.livepatches.build import kbuild
from tests.livepatches.headers import find_headers
from tests.vm import apt, kernel
from tests.vm.cache import digest, source
from tests.vm.command import run

if TYPE_CHECKING:
    from tests.vm.cache import Cache
    from tests.vm.host import Host

_SOURCE: Final = "linux-source-6.1"
_MODULES: Final = "lib/livepatch"
_SCRIPTS: Final = "tools/testing/selftests/livepatch"
_TREE: Final = "/lib/modules/$(uname -r)/kernel/lib/livepatch"  # where CONFIG_TEST_LIVEPATCH=m has them installed
_THERE: Final = "/root/selftests"
# functions.sh: start_test and check_result
_RESULT: Final = re.compile(r"^TEST: (.+) \.\.\. (ok|not ok)$", re.MULTILINE)
_TIMEOUT: Final = 200.0  # seconds, for one script: two hosts at a time on two processors


@dataclass(frozen=True, slots=True)
class Selftests:
    """The scripts (test-*.sh and what they source) and the modules (.ko) for the test host's usual kernel."""

    scripts: Path
    modules: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a script ended, and each of its tests: (name, "ok" or "not ok").  ``said`` is all that it put out."""

    status: int
    tests: tuple[tuple[str, str], ...]
    said: str


def selftests(cache: Cache) -> Selftests:
    """Download (139 MB), unpack and build them, unless the cache has them."""
    version = apt.candidates(cache, [_SOURCE])[_SOURCE]
    headers = find_headers(kernel.release(cache, kernel.STOCK))

    def fill(folder: Path) -> None:
        deb = apt.download(cache, _SOURCE, version, folder)
        apt.unpack(deb, folder)
        deb.unlink()
        archive = folder / f"usr/src/{_SOURCE}.tar.xz"
        wanted = [f"{_SOURCE}/{each}" for each in (_MODULES, _SCRIPTS)]
        run(["tar", "--extract", "--xz", "--file", archive, "--directory", folder, "--strip-components=1", *wanted])
        archive.unlink()
        modules = folder / _MODULES
        names = sorted(each.stem for each in modules.glob("test_klp_*.c"))
        (modules / "Kbuild").write_text("".join(f"obj-m += {name}.o\n" for name in names))
        kbuild(headers, modules)

    symbols = (headers.folder / "Module.symvers").read_text()
    key = digest(source(__file__), version, headers.release, digest(symbols))
    folder = cache.get("selftests", key, fill, keep=2)
    return Selftests(folder / _SCRIPTS, folder / _MODULES)


def put_selftests(host: Host, tests: Selftests) -> None:
    """Install the modules in a host as `make modules_install` would, and copy the scripts."""
    host.put(tests.scripts, _THERE)
    host.run(f"mkdir --parents {_TREE}", check=True)
    tree = host.run(f"echo {_TREE}").stdout.strip()
    for module in sorted(tests.modules.glob("*.ko")):
        host.put(module, f"{tree}/{module.name}")
    host.run("depmod --all", check=True)


def run_script(host: Host, name: str) -> Outcome:
    """Run one of the scripts in a host."""
    done = host.run(["bash", f"./{name}"], cwd=_THERE, timeout=_TIMEOUT)
    return Outcome(done.returncode, tuple(_RESULT.findall(done.stdout)), done.stdout + done.stderr)
