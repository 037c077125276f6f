# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host: what klpd says of a load, what klpctl says without it, and what insmod and apply then get.

The test livepatches are in /root/lps.  The arguments are the names of the combinations below to try: all, where there
are none.  Tells in JSON, for each of them, the answers and how the attempts ended.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from klpd.kernel import sysfs

FILES = Path("/root/lps")
TREE = Path(f"/lib/modules/{os.uname().release}/updates/four_ways")
UNWATCHED = Path("/srv/elsewhere")
NAMED = Path("/srv/lps")
POLICY = Path("/etc/klpd/policy.d/50-test.toml")
SITE = Path("/etc/klpd/livepatches.d/test.toml")
STORE = Path("/var/lib/klpd")
OPENED = Path("/run/klpd/guard-open")
LIVEPATCHES = Path("/sys/kernel/livepatch")
NOBODY = 65534
NO_BUS = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}

ALLOW = '[policy]\ndefault = "allow"\n'
DENY = '[policy]\ndefault = "deny"\n'
LENIENT = ALLOW + 'unknown-states = "allow"\n[[state]]\nid = 0x61\nsticky = false\n'
"""Everything may come and go."""
AUDIT = 'mode = "audit"\n'
LOW = "\n[[state]]\nid = 0x61\nversions = '<=1'\n"
"""The site accepts no version above 1 of what the manifests below declare."""
HIGH = "[[state]]\nid = 0x61\nversion = 5\n"
STICKY = HIGH + "sticky = true\n"


def nothing(_combination: Combination) -> None:
    """Nothing more has to be done."""


@dataclass(frozen=True)
class Combination:
    """A policy, a stack (livepatches with what a manifest declares of each), a livepatch with its manifest, and where
    it lies.  `stack_in`: where the files of the stack lie; `before`: what else happens before klpd is asked.
    """

    policy: str
    livepatch: str
    manifest: str = ""
    stack: dict[str, str] = field(default_factory=dict)
    folder: Path = TREE
    stack_in: Path = TREE
    before: Callable[[Combination], None] = nothing

    @property
    def file(self) -> Path:
        return self.folder / f"{self.livepatch}.ko"

    @property
    def beside(self) -> Path:
        return self.folder / f"{self.livepatch}.livepatch.toml"


def run(*command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done


# --- What happens before klpd is asked ---


def forget_the_manifest(combination: Combination) -> None:
    """The file is opened while a manifest lies beside it, and no more when it is loaded."""
    combination.file.read_bytes()
    combination.beside.unlink()


def forget_the_manifest_of_what_is_refused(combination: Combination) -> None:
    set_policy(combination.policy)
    forget_the_manifest(combination)


def declare_less(combination: Combination) -> None:
    combination.file.read_bytes()
    put_manifest(combination.file, "[[state]]\nid = 0x61\nversion = 1\n")


def give_the_manifest_away(combination: Combination) -> None:
    os.chown(combination.beside, NOBODY, 0)


def let_others_write_the_manifest(combination: Combination) -> None:
    combination.beside.chmod(0o666)


def spoil_the_manifest(combination: Combination) -> None:
    combination.beside.write_text("oops\n")


def change_the_bytes(combination: Combination) -> None:
    with combination.file.open("ab") as file:
        file.write(b"more")


def compress(combination: Combination) -> None:
    data = combination.file.read_bytes()
    combination.file.unlink()
    combination.file.with_suffix(".ko.xz").write_bytes(lzma.compress(data, check=lzma.CHECK_CRC32))


def leave_it_over(combination: Combination) -> None:
    run("insmod", str(combination.file))
    settle()
    while not may_be_disabled(combination.livepatch):
        time.sleep(0.2)  # klpd permits it once it has looked
    settle()


def open_the_gate(_combination: Combination) -> None:
    run("klpctl", "guard", "open")


def declare_by_the_site(combination: Combination) -> None:
    SITE.parent.mkdir(exist_ok=True)
    SITE.write_text(manifest_of(combination.file, HIGH))


def move_away_and_link(combination: Combination) -> None:
    other = (UNWATCHED if combination.folder is TREE else TREE) / combination.file.name
    combination.file.rename(other)
    combination.file.symlink_to(other)
    if combination.beside.exists():
        combination.beside.rename(other.with_suffix(".livepatch.toml"))


def remove_the_stacks_files(combination: Combination) -> None:
    for name in combination.stack:
        for each in combination.stack_in.glob(f"{name}.*"):
            each.unlink()


def remove_the_stacks_manifests(combination: Combination) -> None:
    for name in combination.stack:
        (combination.stack_in / f"{name}.livepatch.toml").unlink()


def forget_all(combination: Combination) -> None:
    set_policy(combination.policy)
    wipe_the_store()


UNKNOWN, PLAIN, CUMULATIVE = "klp_allocated", "klp_add_stateless", "klp_stateless"
WITH_DIRECTORY = ALLOW + f'directories = ["{NAMED}"]\n'
COMBINATIONS = {
    "allowed": Combination(ALLOW, "klp_cmdline_v1"),
    "denied": Combination(DENY, "klp_cmdline_v1"),
    "denied by a rule": Combination(
        ALLOW + '[[livepatch]]\nmatch = { name = "klp_cmdline_*" }\nverdict = "deny"\n', "klp_cmdline_v1"
    ),
    "denied in audit mode": Combination(DENY + AUDIT, "klp_cmdline_v1"),
    "denied with the gate open": Combination(DENY, "klp_cmdline_v1", before=open_the_gate),
    "an update": Combination(ALLOW, "klp_cmdline_v2", stack={"klp_cmdline_v1": ""}),
    "a lower state": Combination(ALLOW, "klp_cmdline_v1", stack={"klp_cmdline_v2": ""}),
    "a state lost": Combination(ALLOW, CUMULATIVE, stack={"klp_cmdline_v1": ""}),
    "a state lost in audit mode": Combination(ALLOW + AUDIT, CUMULATIVE, stack={"klp_cmdline_v1": ""}),
    "a version that is not accepted": Combination(
        ALLOW + "\n[[state]]\nid = 0x1001\nversions = '<=1'\n", "klp_cmdline_v2"
    ),
    "for another kernel": Combination(ALLOW, "klp_other_kernel"),
    "unknown states": Combination(ALLOW, UNKNOWN),
    "unknown states that may come": Combination(ALLOW + 'unknown-states = "allow"\n', UNKNOWN),
    "unknown states declared": Combination(ALLOW, UNKNOWN, HIGH),
    "unknown states declared once": Combination(ALLOW, UNKNOWN, HIGH, before=forget_the_manifest),
    "declared too high": Combination(ALLOW + LOW, PLAIN, HIGH),
    "declared too high once": Combination(ALLOW + LOW, PLAIN, HIGH, before=forget_the_manifest),
    "declared too high and never allowed": Combination(
        ALLOW + LOW, PLAIN, HIGH, before=forget_the_manifest_of_what_is_refused
    ),
    "declared anew": Combination(ALLOW + LOW, PLAIN, HIGH, before=declare_less),
    "declared too high by the site": Combination(ALLOW + LOW, PLAIN, before=declare_by_the_site),
    "declared too high in the modinfo": Combination(
        ALLOW + "\n[[state]]\nid = 0x2003\nversions = '<=1'\n", "klp_declared"
    ),
    "declared otherwise than it is": Combination(ALLOW, "klp_cmdline_v1", "[[state]]\nid = 0x1001\nversion = 9\n"),
    "declared by somebody": Combination(ALLOW, PLAIN, HIGH, before=give_the_manifest_away),
    "declared by anybody": Combination(ALLOW, PLAIN, HIGH, before=let_others_write_the_manifest),
    "declared by somebody in audit mode": Combination(ALLOW + AUDIT, PLAIN, HIGH, before=give_the_manifest_away),
    "declared of another": Combination(ALLOW, PLAIN, HIGH, before=change_the_bytes),
    "declared by a broken manifest": Combination(ALLOW, PLAIN, HIGH, before=spoil_the_manifest),
    "elsewhere": Combination(ALLOW, PLAIN, folder=UNWATCHED),
    "elsewhere and denied": Combination(DENY, PLAIN, folder=UNWATCHED),
    "elsewhere in audit mode": Combination(ALLOW + AUDIT, PLAIN, folder=UNWATCHED),
    "in a directory that the policy names": Combination(WITH_DIRECTORY, PLAIN, folder=NAMED),
    "a link to a file elsewhere": Combination(ALLOW, PLAIN, before=move_away_and_link),
    "a link to a file that is watched": Combination(
        ALLOW + LOW, PLAIN, HIGH, folder=UNWATCHED, before=move_away_and_link
    ),
    "compressed": Combination(ALLOW, PLAIN, before=compress),
    "left over": Combination(ALLOW, PLAIN, before=leave_it_over),
    "in force already": Combination(ALLOW, PLAIN, stack={PLAIN: ""}),
    "a declared state lost": Combination(ALLOW, CUMULATIVE, stack={PLAIN: STICKY}),
    "a state lost that was declared": Combination(
        ALLOW, CUMULATIVE, stack={PLAIN: STICKY}, before=remove_the_stacks_manifests
    ),
    "a state lost that is declared of a file elsewhere": Combination(
        ALLOW, CUMULATIVE, stack={PLAIN: STICKY}, stack_in=UNWATCHED, before=remove_the_stacks_files
    ),
    "a state lost that is declared in a directory that the policy names": Combination(
        WITH_DIRECTORY, CUMULATIVE, stack={PLAIN: STICKY}, stack_in=NAMED, before=forget_all
    ),
}


# --- Making it so ---


def set_policy(text: str) -> None:
    if not POLICY.exists() or POLICY.read_text() != text:
        POLICY.write_text(text)
        run("systemctl", "reload", "klpd")


def manifest_of(file: Path, states: str) -> str:
    return f'[livepatch]\nsha256 = "{hashlib.sha256(file.read_bytes()).hexdigest()}"\n{states}'


def put_manifest(file: Path, states: str) -> None:
    file.with_suffix(".livepatch.toml").write_text(manifest_of(file, states))


def put(name: str, states: str, folder: Path, tail: str = "") -> Path:
    """Lay a livepatch there with its manifest; `tail` makes its bytes others than those of all combinations before."""
    file = folder / f"{name}.ko"
    aside = folder / f".{name}.new"
    shutil.copyfile(FILES / file.name, aside)
    with aside.open("ab") as stream:
        stream.write(tail.encode())
    if states:
        file.with_suffix(".livepatch.toml").write_text(manifest_of(aside, states))
    aside.rename(file)
    return file


def wipe_the_store() -> None:
    run("systemctl", "stop", "klpd")
    for each in STORE.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    run("systemctl", "start", "klpd")


def settle() -> None:
    while any(each.transition for each in sysfs.read_livepatches()):
        time.sleep(0.05)


def in_force() -> list[str]:
    settle()
    return sorted(each.name for each in sysfs.read_livepatches())


def modules() -> list[str]:
    names = (line.split()[0] for line in Path("/proc/modules").read_text().splitlines())
    return [each for each in names if each.startswith("klp_")]


def may_be_disabled(name: str) -> bool:
    """Disable a livepatch, if klpd lets it be."""
    try:
        (LIVEPATCHES / name / "enabled").write_text("0")
    except PermissionError:
        return False
    return True


def take_all_out() -> None:
    for name in in_force():
        while not may_be_disabled(name):
            set_policy(LENIENT)
            time.sleep(0.2)  # klpd permits it once it has looked
        settle()
    while left := modules():
        for name in left:
            run("rmmod", name, check=False)


def clean() -> None:
    """No livepatch in force, none left over, and no file of a former combination."""
    if OPENED.exists():
        run("klpctl", "guard", "close")
    take_all_out()
    if SITE.exists():
        SITE.unlink()
        run("systemctl", "reload", "klpd")
    for folder in (TREE, UNWATCHED, NAMED):
        folder.mkdir(parents=True, exist_ok=True)
        for each in folder.iterdir():
            each.unlink()


def prepare(name: str, combination: Combination) -> None:
    clean()
    if combination.stack:
        wipe_the_store()  # what looks like these, and was seen before, is not to be taken for them
        set_policy(LENIENT)
    for each, states in combination.stack.items():
        load = ("insmod",) if combination.stack_in is TREE else ("klpctl", "apply")
        run(*load, str(put(each, states, combination.stack_in)))
        settle()
    if combination.livepatch not in combination.stack:
        put(combination.livepatch, combination.manifest, combination.folder, name)
    if combination.before is not nothing:
        set_policy(LENIENT)
        combination.before(combination)
    set_policy(combination.policy)


def path_of(combination: Combination) -> str:
    packed = combination.file.with_suffix(".ko.xz")
    return str(packed if packed.exists() else combination.file)


# --- Asking and trying ---


def asked(file: str, *before: str, **environment: str) -> dict[str, object]:
    done = run(*before, "klpctl", "--json", "check", file, check=False, **environment)
    answer: dict[str, object] = json.loads(done.stdout) if done.stdout else {}
    return {"status": done.returncode, "answer": answer, "said": done.stderr}


def listed(**environment: str) -> object:
    return json.loads(run("klpctl", "--json", "list", check=True, **environment).stdout)


def tried(*command: str) -> dict[str, object]:
    before = in_force()
    done = run(*command, check=False)
    return {"status": done.returncode, "before": before, "after": in_force(), "said": done.stdout + done.stderr}


def outcome(name: str, combination: Combination) -> dict[str, object]:
    prepare(name, combination)
    file = path_of(combination)
    found: dict[str, object] = {
        "with": asked(file),
        "without": asked(file, **NO_BUS),
    }
    if combination.manifest or combination.stack:
        found["user"] = asked(file, "runuser", "--user", "nobody", "--", **NO_BUS)
    if combination.stack:
        found["lists"] = [listed(), listed(**NO_BUS)]
    before = modules()
    found["insmod"] = tried("insmod", file)
    if modules() != before:
        if combination.stack or combination.before is not nothing:
            prepare(name, combination)
        else:
            take_all_out()
            set_policy(combination.policy)  # it may have taken another to do so
    return {**found, "apply": tried("klpctl", "apply", file)}


if __name__ == "__main__":
    print(json.dumps({name: outcome(name, COMBINATIONS[name]) for name in sys.argv[1:] or COMBINATIONS}))
