# SPDX-License-Identifier: GPL-2.0-or-later
"""Who could change what klpd goes by: such files, and the ways to them, are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.local import ThisMachine
from klpd.errors import PolicyError
from klpd.policy import check_file, read_policy
from klpd.policy.beside import open_beside
from klpd.policy.ownership import reach
from tests.livepatches.signing import make_key
from tests.unit.policy.site import ETC, ME, USR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.policy.site import Site

MANIFESTS = "etc/klpd/livepatches.d"
SOMEBODY = 1000
GOOD = '[policy]\nmode = "audit"\n'
MANIFEST = f'[livepatch]\nsha256 = "{"ab" * 32}"\n'
as_root = pytest.mark.skipif(ME != 0, reason="only root can give files away")


def refusals(site: Site) -> list[str]:
    return [str(each).replace(f"{site.root}/", "") for each in site.refusal().all]


RULE = ", and what klpd goes by is for root alone to say; chown root and chmod go-w it"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
@pytest.mark.parametrize("directory", [ETC, USR, MANIFESTS])
def test_a_file_that_others_may_write_is_refused(site: Site, mode: int, directory: str) -> None:
    path = site.put("50-a.toml", MANIFEST if directory == MANIFESTS else GOOD, directory=directory)
    site.policy()
    path.chmod(mode)
    assert refusals(site) == [f"{directory}/50-a.toml: it can be written by others than root{RULE}"]
    policy = read_policy(site.root, owner=None)
    assert len(policy.files) + len(policy.manifests) == 1


@as_root
def test_a_file_of_somebody_else_is_refused(site: Site) -> None:
    path = site.put("50-a.toml", GOOD)
    os.chown(path, SOMEBODY, 0)
    assert refusals(site) == [f"{ETC}/50-a.toml: it belongs to user {SOMEBODY}{RULE}"]
    assert read_policy(site.root, owner=SOMEBODY).files == (str(path),)


@as_root
def test_a_file_that_masks_another_is_not_for_others_either(site: Site) -> None:
    site.put("50-a.toml", GOOD, directory=USR)
    os.chown(site.put("50-a.toml", ""), SOMEBODY, 0)
    assert refusals(site) == [f"{ETC}/50-a.toml: it belongs to user {SOMEBODY}{RULE}"]


def test_a_link_to_dev_null_masks_though_anybody_may_write_there(site: Site) -> None:
    site.put("50-a.toml", GOOD, directory=USR)
    site.path("50-a.toml").symlink_to("/dev/null")
    assert site.policy().files == ()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
@pytest.mark.parametrize("directory", [ETC, MANIFESTS])
def test_a_directory_that_others_may_write_is_refused_sticky_or_not(site: Site, mode: int, directory: str) -> None:
    path = site.path("50-a.toml", directory).parent
    site.policy()
    path.chmod(mode)
    assert refusals(site) == [f"{directory}: it can be written by others than root{RULE}"]


@pytest.mark.parametrize("mode", [0o775, 0o777])
def test_so_is_one_above_in_which_they_may_rename(site: Site, mode: int) -> None:
    site.put("50-a.toml", GOOD)
    (site.root / "etc/klpd").chmod(mode)
    on_the_way = f"etc/klpd, on the way to it, can be written by others than root{RULE}"
    assert refusals(site) == [f"{each}: {on_the_way}" for each in (ETC, MANIFESTS)]


@as_root
def test_so_is_one_above_that_belongs_to_somebody_else(site: Site) -> None:
    site.put("50-a.toml", GOOD)
    os.chown(site.root / "etc", SOMEBODY, 0)
    assert refusals(site)[0] == f"{ETC}: etc, on the way to it, belongs to user {SOMEBODY}{RULE}"


def test_a_sticky_directory_above_keeps_what_is_there_but_not_what_is_not(site: Site) -> None:
    site.put("50-a.toml", GOOD)
    (site.root / "etc/klpd").chmod(0o1777)
    assert refusals(site) == [f"{MANIFESTS}: etc/klpd, on the way to it, can be written by others than root{RULE}"]
    site.put("a.toml", MANIFEST, MANIFESTS)
    assert site.policy().files == (str(site.path("50-a.toml")),)


@as_root
def test_what_somebody_else_has_in_a_sticky_directory_is_his_to_exchange(site: Site) -> None:
    real = site.put("elsewhere", GOOD, directory="srv/safe")
    drop = site.root / "drop"
    drop.mkdir()
    drop.chmod(0o1777)
    (drop / "link").symlink_to(real)
    site.path("50-a.toml").symlink_to(drop / "link")
    assert site.policy().files == (str(site.path("50-a.toml")),)
    os.lchown(drop / "link", SOMEBODY, 0)
    assert refusals(site) == [f"{ETC}/50-a.toml: drop, on the way to it, can be written by others than root{RULE}"]


def test_links_are_followed_to_the_directories_where_the_file_is(site: Site) -> None:
    real = site.put("50-real.toml", GOOD, directory="srv/policy")
    site.path("50-a.toml").symlink_to("../../../srv/policy/50-real.toml")
    assert site.policy().files == (str(site.path("50-a.toml")),)
    real.parent.chmod(0o777)
    assert refusals(site) == [
        f"{ETC}/50-a.toml: srv/policy, on the way to it, can be written by others than root{RULE}"
    ]
    real.parent.chmod(0o755)
    real.chmod(0o666)
    assert refusals(site) == [
        f"{ETC}/50-a.toml: srv/policy/50-real.toml, on the way to it, can be written by others than root{RULE}"
    ]


def test_every_complaint_is_told_whatever_directory_it_is_of(site: Site) -> None:
    site.put("50-a.toml", "x = 1")
    site.path("60-b.toml", USR).parent.chmod(0o777)
    site.put("70-c.toml", "y = 1").chmod(0o666)
    assert [each.split(":")[0] for each in refusals(site)] == [USR, f"{ETC}/70-c.toml", f"{ETC}/50-a.toml"]


def certificate(site: Site) -> Path:
    folder = site.root / "certificates"
    folder.mkdir()
    folder.chmod(0o755)
    return make_key(folder / "key.pem", "klpd's own")


@pytest.mark.parametrize("by", ["file", "directory"])
@pytest.mark.parametrize("exposed", ["file", "directory"])
def test_certificates_that_others_may_write_are_refused(site: Site, by: str, exposed: str) -> None:
    path = certificate(site)
    text = f'[policy]\ntrusted-certificates = ["{path if by == "file" else path.parent}"]'
    assert site.complaints(text) == []
    (path if exposed == "file" else path.parent).chmod(0o777)
    (complaint,) = site.complaints(text)
    assert complaint.startswith("2:25: trusted-certificates: ")
    assert complaint.endswith(f"can be written by others than root{RULE}")
    assert check_file(site.path("checked"), owner=None).complaints == ()


# --- Links to nothing ---

LINKED: dict[str, Callable[[Site], Path]] = {
    ETC: lambda site: site.root / ETC,
    MANIFESTS: lambda site: site.root / MANIFESTS,
    "etc/klpd": lambda site: site.root / "etc/klpd",
    "etc": lambda site: site.root / "etc",
}


@pytest.mark.parametrize("owner", [ME, None])
@pytest.mark.parametrize("target", ["/nonexistent/klpd", "nonexistent", "../nonexistent/x"])
@pytest.mark.parametrize("linked", LINKED)
def test_a_directory_that_is_a_link_to_nothing_is_an_error(
    site: Site, linked: str, target: str, owner: int | None
) -> None:
    path = LINKED[linked](site)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    with pytest.raises(PolicyError, match=r"a link leads to .*nonexistent.*, which does not exist") as caught:
        read_policy(site.root, owner=owner)
    assert all(each.file.startswith(str(path)) for each in caught.value.all)


def test_a_link_to_a_directory_in_which_the_rest_is_not_is_none(site: Site) -> None:
    (site.root / "srv").mkdir()
    (site.root / "etc").mkdir()
    (site.root / "etc/klpd").symlink_to("../srv")
    policy = read_policy(site.root, owner=ME)
    assert (policy.files, policy.manifests) == ((), ())


@as_root
def test_klpctl_holds_the_sites_own_manifests_to_be_roots_and_others_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MANIFEST)
    path.chmod(0o666)
    assert ThisMachine().manifest(str(path)) is not None
    monkeypatch.setattr("klpd.policy.manifest.DIRECTORIES", (str(tmp_path)[1:],))
    with pytest.raises(PolicyError, match="can be written by others than root"):
        ThisMachine().manifest(str(path))
    path.write_text("")
    path.chmod(0o644)
    assert ThisMachine().manifest(str(path)) is None


def test_a_manifest_beside_a_module_that_is_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "new.livepatch.toml").symlink_to("nothing")
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        open_beside(str(tmp_path / "new.ko"))


def test_a_way_through_too_many_links_is_an_error(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}").symlink_to(f"{number + 1}")
    (tmp_path / "50").mkdir()
    assert reach(tmp_path / "20", None)
    with pytest.raises(PolicyError, match="Too many levels of symbolic links"):
        reach(tmp_path / "0", None)


def test_dots_and_relative_names_lead_where_they_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "a/file").touch()
    monkeypatch.chdir(tmp_path)
    assert reach(Path("link/../file"), ME)
    assert not reach(Path("file"), ME)
    with pytest.raises(PolicyError, match="Not a directory"):
        reach(Path("a/file/x"), ME)
