"""Saving the configuration is enough, and half a file is never read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngrokd.configfile import Source
from ngrokd.configwatch import PERIOD_S, ConfigWatch


class Looks:
    """A watch that looks once a period."""

    def __init__(self, *paths: Path) -> None:
        self.watch = ConfigWatch(paths)
        self._now = 0.0

    def once(self) -> bool:
        self._now += PERIOD_S
        return self.watch.changed(self._now)

    def until_changed(self) -> int:
        """How many looks it took, of five at most."""
        return next((n for n in range(1, 6) if self.once()), 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text("net: {start_port: 1}\n")
    return path


def replace(path: Path, text: str) -> None:
    """As editors and configuration management do."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_file_that_stays_is_not_read_again(file: Path) -> None:
    assert Looks(file).until_changed() == 0


def test_a_file_that_was_replaced_is_read_again_once(file: Path) -> None:
    looks = Looks(file)
    replace(file, "net: {start_port: 2}\n")
    assert looks.until_changed()
    looks.watch.taken()
    assert looks.until_changed() == 0


def test_a_file_that_was_written_in_place_is_read_again(file: Path) -> None:
    looks = Looks(file)
    file.write_text("net: {start_port: 22}\n")
    assert looks.until_changed()


def test_a_file_that_is_still_being_written_is_not_read(file: Path) -> None:
    looks = Looks(file)
    for size in range(1, 6):
        file.write_text("#" * size)
        assert not looks.once()
    assert looks.until_changed()


def test_a_file_that_is_away_for_a_moment_is_not_missed_and_one_that_stays_away_is(
    file: Path,
) -> None:
    looks = Looks(file)
    looks.once()
    aside = file.rename(file.with_name("aside"))
    assert not looks.once()
    aside.rename(file)
    assert looks.until_changed() == 0
    file.unlink()
    assert looks.until_changed()


def test_one_file_that_is_away_does_not_hide_a_change_of_another(file: Path) -> None:
    looks = Looks(file, file.with_name("key"))
    replace(file, "another\n")
    assert looks.until_changed()


def test_a_link_that_points_elsewhere_is_a_change(file: Path) -> None:
    link, other = file.with_name("link.yml"), file.with_name("other.yml")
    other.write_text(file.read_text())
    link.symlink_to(file)
    looks = Looks(link)
    link.unlink()
    link.symlink_to(other)
    assert looks.until_changed()


def test_between_two_looks_nothing_is_looked_at(file: Path) -> None:
    looks: list[Path] = []
    watch = ConfigWatch([file], lambda path: looks.append(path))
    watch.changed(100.0)
    before = len(looks)
    assert not watch.changed(100.0 + PERIOD_S / 2)
    assert len(looks) == before
    assert watch.wait_s(100.0 + PERIOD_S / 2) == PERIOD_S / 2


def test_the_file_of_the_key_is_watched_too(file: Path) -> None:
    key = file.with_name("key")
    assert Source(file, {"NGROK_API_KEY_FILE": str(key)}).files() == (file, key)
    # The variable itself goes before the file.
    assert Source(file, {"NGROK_API_KEY_FILE": str(key), "NGROK_API_KEY": "k"}).files() == (file,)
    assert Source(None, {}).files() == ()
