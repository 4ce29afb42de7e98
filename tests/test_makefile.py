"""The commands a person types, and what they say when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ngrokd import __version__

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120


def make(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    # Without this the outer make's flags, -n for one, would be taken over.
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**inherited, **env},
        check=False,
    )


def test_every_target_for_people_is_in_the_help() -> None:
    result = make()
    assert result.returncode == 0
    listed = {line.split()[0] for line in result.stdout.splitlines()[1:]}
    tests = "test longtest bench soak lint check"
    people = f"help run {tests} venv clean manuals outputs dist install uninstall"
    assert listed == set(people.split())


@pytest.mark.parametrize(
    ("target", "package"),
    [
        ("run", "netcat-openbsd"),
        ("test", "nginx-light"),
        ("bench", "stunnel4"),
        ("bench", "libssl-dev"),
    ],
)
def test_missing_debian_packages_are_named_in_one_line(
    tmp_path: Path, target: str, package: str
) -> None:
    for tool in ("python3", "sh", "make"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    # `override` on the command line: the Makefile itself appends sbin folders.
    result = make(target, f"PATH={tmp_path}", "SHELL=/bin/sh")
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if "apt-get install" in line]
    assert len(said) == 1 and package in said[0]


def test_a_python_that_is_not_there_is_named() -> None:
    result = make("run", "PYTHON=python9")
    assert result.returncode != 0
    assert "no python9" in result.stderr


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a packager gets; the tests only read it."""
    folder = tmp_path_factory.mktemp("package")
    result = make("install", f"DESTDIR={folder}", "PREFIX=/opt/ngrokd")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.long
def test_install_puts_commands_that_run_by_themselves(packaged: Path, tmp_path: Path) -> None:
    prefix = packaged / "opt" / "ngrokd"
    launcher = (prefix / "bin" / "ngrokd").read_text()
    assert launcher.startswith("#!/") and " -I\n" in launcher
    # Packages live under PREFIX; here it is still below DESTDIR.
    moved = tmp_path / "ngrokd"
    moved.write_text(launcher.replace('"/opt/ngrokd/lib', f'"{prefix}/lib'))
    moved.chmod(0o755)
    version = subprocess.run([moved, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"ngrokd {__version__}\n"
    assert (prefix / "bin" / "ngrokctl").exists()


@pytest.mark.long
def test_packages_get_the_files_of_the_service_in_their_usual_places(packaged: Path) -> None:
    share = packaged / "opt/ngrokd/share"
    unit = packaged / "opt/ngrokd/lib/systemd/system/ngrokd.service"
    script = packaged / "etc/init.d/ngrokd"
    assert "ExecStart=/opt/ngrokd/bin/ngrokd " in unit.read_text()
    assert "\nDAEMON=/opt/ngrokd/bin/ngrokd\n" in script.read_text()
    assert (unit.stat().st_mode & 0o777, script.stat().st_mode & 0o777) == (0o644, 0o755)
    assert (packaged / "etc/default/ngrokd").exists()
    assert (packaged / "etc/logrotate.d/ngrokd").exists()
    for page in ("man8/ngrokd.8", "man1/ngrokctl.1", "man5/ngrokd.yml.5"):
        assert (share / "man" / page).exists()
    for file in ("bash-completion/completions/ngrokctl", "zsh/site-functions/_ngrokd"):
        assert (share / file).exists()
    assert not (packaged / "etc/ngrokd").exists()
    assert list(packaged.rglob("*.wants")) == list(packaged.rglob("rc?.d")) == []


@pytest.mark.long
def test_no_file_of_a_package_names_the_folder_it_was_made_in(packaged: Path) -> None:
    leaks = [str(packaged).encode(), str(ROOT).encode()]
    named = [
        path
        for path in packaged.rglob("*")
        # The launchers name the interpreter, which is a checkout's own in development.
        if path.is_file() and path.parent.name != "bin"
        if any(leak in path.read_bytes() for leak in leaks)
    ]
    assert named == []


@pytest.mark.parametrize("target", ["install", "uninstall"])
@pytest.mark.parametrize(
    "prefix", ["/opt/a b", "/opt/a&b", "/opt/a|b", "/opt/it's", "rel/x", "/opt/$$(id)", "/opt/a:b"]
)
def test_a_prefix_that_cannot_stand_in_the_files_is_refused_before_anything_is_done(
    target: str, prefix: str, tmp_path: Path
) -> None:
    result = make(target, f"DESTDIR={tmp_path}/d", f"PREFIX={prefix}")
    assert result.returncode == 2
    said = [line for line in result.stderr.splitlines() if not line.startswith("make: ")]
    assert len(said) == 1 and said[0].endswith(f"and is {prefix.replace('$$', '$')}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_the_job_of_launchd_comes_without_settings_that_macos_does_not_read(
    tmp_path: Path, verb: str
) -> None:
    planned = make("-n", verb, f"DESTDIR={tmp_path}", "INIT=launchd").stdout
    name = "com.ngrok.ngrokd.plist"
    assert f"644:init/{name}:/Library/LaunchDaemons/{name}" in planned
    assert "init/ngrokd.default:" not in planned and "init/ngrokd.logrotate:" not in planned
    assert "init/ngrokd.default:" in make("-n", verb, f"DESTDIR={tmp_path}", "INIT=sysv").stdout


@pytest.mark.long
def test_uninstall_takes_what_install_put_and_leaves_what_was_changed(tmp_path: Path) -> None:
    words = (f"DESTDIR={tmp_path}", "PREFIX=/usr", "INIT=openrc")
    assert make("install", *words).returncode == 0
    assert "openrc-run" in (tmp_path / "etc/init.d/ngrokd").read_text()
    settings = tmp_path / "etc/default/ngrokd"
    settings.write_text("START_TIMEOUT=5\n")

    again = make("install", *words)
    removed = make("uninstall", *words)

    assert (again.returncode, removed.returncode) == (0, 0)
    assert settings.read_text() == "START_TIMEOUT=5\n"
    assert f"{settings} stays" in removed.stdout
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [settings]
