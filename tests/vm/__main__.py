# SPDX-License-Identifier: GPL-2.0-or-later
"""The test host's command line: `python3 -m tests.vm run -- COMMAND`, `shell`, `build`, `release`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm import kernel, packages
from tests.vm.attach import attached
from tests.vm.boot import Options, boot, prepare, say_on_stderr
from tests.vm.cache import Cache, default_folder
from tests.vm.errors import CommandTimeout, HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_TIMEOUT: Final = 124
EXIT_HARNESS: Final = 125
EXIT_INTERRUPTED: Final = 130

_EPILOG: Final = """\
exit status: the command's; 128+N where signal N killed it; 124 where it took longer than --timeout; 125 where the
test host itself failed, with the reason on standard error.  What is built is kept in $KLPD_CACHE, else in
$XDG_CACHE_HOME/klpd, else in ~/.cache/klpd, which may be deleted at any time.
"""


def main() -> int:
    """Do what the command line says and give the exit status."""
    arguments = _parser().parse_args()
    try:
        status: int = arguments.function(arguments)
    except CommandTimeout as error:
        print(f"test host: {error}", file=sys.stderr)
        return EXIT_TIMEOUT
    except HarnessError as error:
        print(f"test host: {error}", file=sys.stderr)
        return EXIT_HARNESS
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm", description=__doc__, epilog=_EPILOG)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, epilog=_EPILOG)
        sub.set_defaults(function=function)
        return sub

    default = Options()

    def kernel_option(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--kernel", choices=kernel.KERNELS, default="stock", help="Debian 12's own, or another's")

    def machine_options(sub: argparse.ArgumentParser) -> None:
        kernel_option(sub)
        sub.add_argument("--kernel-arg", action="append", default=[], metavar="ARG", help="add to its command line")
        sub.add_argument("--memory", type=int, default=default.memory, metavar="MIB")
        sub.add_argument("--cpus", type=int, default=default.cpus, metavar="N")
        sub.add_argument("--no-klpd", action="store_true", help="leave klpd installed, but stopped")

    def run_options(sub: argparse.ArgumentParser) -> None:
        machine_options(sub)
        sub.add_argument("--copy", action="append", default=[], type=Path, metavar="PATH", help="put it into /root/")
        sub.add_argument("--timeout", type=float, metavar="S", help="kill the command after so many seconds")

    run = verb("run", _run, "run a command as root on a fresh host")
    run_options(run)
    run.add_argument("--tty", action="store_true", help="give the command a terminal")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND [ARG...]")
    run_options(verb("shell", _shell, "get a root prompt on a fresh host"))
    machine_options(verb("build", _build, "prepare all that `run` needs, so that it starts at once"))
    kernel_option(verb("release", _release, "print the release of the host's kernel, to build modules for"))
    return parser


def _run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise HarnessError("run what? `python3 -m tests.vm run -- COMMAND [ARG...]`")
    return _attach(arguments, command, terminal=arguments.tty)


def _shell(arguments: argparse.Namespace) -> int:
    return _attach(arguments, ["bash", "--login"], terminal=True)


def _attach(arguments: argparse.Namespace, command: list[str], *, terminal: bool) -> int:
    for path in arguments.copy:
        if not path.exists():
            raise HarnessError(f"--copy {path}: there is no such file")
    with boot(_options(arguments)) as host:
        for path in arguments.copy:
            host.put(path, f"/root/{path.resolve().name}")
        return attached(host, command, terminal=terminal, timeout=arguments.timeout)


def _build(arguments: argparse.Namespace) -> int:
    begin = time.monotonic()
    template = prepare(Cache(default_folder()), _options(arguments), say_on_stderr)
    print(f"ready after {time.monotonic() - begin:.1f} s ({template.machine.accel}): {template.folder}")
    return 0


def _release(arguments: argparse.Namespace) -> int:
    packages.ensure(say_on_stderr)
    print(kernel.release(Cache(default_folder()), kernel.KERNELS[arguments.kernel]))
    return 0


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        kernel=kernel.KERNELS[arguments.kernel],
        kernel_arguments=tuple(arguments.kernel_arg),
        memory=arguments.memory,
        cpus=arguments.cpus,
        klpd=not arguments.no_klpd,
    )


if __name__ == "__main__":
    sys.exit(main())
