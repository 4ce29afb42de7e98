"""`ca.crt` of the state folder is replaced without losing what was there."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest

from ngrokd.cloud import cafile, facts, ngrokca
from ngrokd.cloud.ngrokca import Anchor, anchor
from ngrokd.errors import StateError
from tests.cloud_fake import Authority

NOW = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc).timestamp()


def an_anchor() -> Anchor:
    pem = Authority().intermediate_pem().encode()
    return anchor(pem, facts.read(ngrokca._only_certificate(pem)).sha256, NOW)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_it_is_made_readable_for_everybody_in_a_folder_that_is_not(tmp_path: Path) -> None:
    folder, wanted = tmp_path / "state", an_anchor()
    placed = cafile.place(folder, wanted)
    assert placed == cafile.Placed(folder / "ca.crt", is_new=True)
    assert placed.path.read_text() == wanted.pem
    assert stat.S_IMODE(placed.path.stat().st_mode) == 0o644
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(folder) == ["ca.crt"]


def test_what_is_there_already_alone_or_among_others_is_left_as_it_is(tmp_path: Path) -> None:
    wanted = an_anchor()
    for content in (wanted.pem, f"# mine\n{an_anchor().pem}{wanted.pem}"):
        (tmp_path / "ca.crt").write_text(content)
        assert cafile.place(tmp_path, wanted) == cafile.Placed(tmp_path / "ca.crt", is_new=False)
        assert (tmp_path / "ca.crt").read_text() == content
    assert names(tmp_path) == ["ca.crt"]


def test_whatever_was_there_is_kept_under_a_name_of_its_own(tmp_path: Path) -> None:
    anchors = [an_anchor() for _ in range(3)]
    kept = [cafile.place(tmp_path, each).kept for each in [*anchors, anchors[0], anchors[1]]]
    assert [Path(each).name for each in kept] == [
        "", "ca.crt.before", "ca.crt.before-2", "ca.crt.before-3", "ca.crt.before"
    ]  # fmt: skip
    assert [Path(each).read_text() for each in kept[1:4]] == [each.pem for each in anchors]


def test_an_empty_file_need_not_be_kept(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").touch()
    assert cafile.place(tmp_path, an_anchor()).kept == ""
    assert names(tmp_path) == ["ca.crt"]


def test_a_symbolic_link_stays_one_and_what_it_led_to_is_kept(tmp_path: Path) -> None:
    folder, wanted = tmp_path / "state", an_anchor()
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (folder / "ca.crt").symlink_to(tmp_path / "elsewhere")
    placed = cafile.place(folder, wanted)
    assert Path(placed.kept).read_text() == "mine"
    assert (folder / "ca.crt").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == wanted.pem


def test_a_file_too_large_to_be_kept_is_not_replaced(tmp_path: Path) -> None:
    with (tmp_path / "ca.crt").open("wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(StateError, match="too large to be kept"):
        cafile.place(tmp_path, an_anchor())
    assert names(tmp_path) == ["ca.crt"]


def test_a_folder_in_its_place_is_an_error_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").mkdir()
    with pytest.raises(StateError, match=r"ca\.crt.*(regular file|folder away)"):
        cafile.place(tmp_path, an_anchor())


def test_whether_there_is_one_does_not_depend_on_what_it_holds(tmp_path: Path) -> None:
    assert not cafile.is_there(tmp_path)
    (tmp_path / "ca.crt").touch()
    assert cafile.is_there(tmp_path)


def test_whether_a_certificate_is_there_is_told_of_any_file_or_none(tmp_path: Path) -> None:
    wanted, other = an_anchor(), an_anchor()
    sha256 = wanted.facts.sha256
    assert not cafile.holds(tmp_path, sha256)
    (tmp_path / "ca.crt").write_text(other.pem)
    assert not cafile.holds(tmp_path, sha256)
    (tmp_path / "ca.crt").write_text(other.pem + wanted.pem)
    assert cafile.holds(tmp_path, sha256)
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "ca.crt").mkdir()
    assert not cafile.holds(tmp_path, sha256)
