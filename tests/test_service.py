"""What `ngrokd install` and `uninstall` decide to do, on machines of every kind."""

from __future__ import annotations

import base64
import datetime
import os
import plistlib
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud import keys, recordfile
from ngrokd.cloud.recordfile import Told
from ngrokd.cloud.registration import Profile
from ngrokd.config import Config, ServerSettings
from ngrokd.errors import HostError, NgrokdError
from ngrokd.host import files
from ngrokd.service import (
    applying,
    control,
    defaults,
    enabling,
    installing,
    layout,
    looking,
    marks,
    ownership,
    program,
    purging,
    removing,
    rendering,
    shipping,
    steps,
    systems,
    trust,
)
from ngrokd.service.disk import Disk, Found
from ngrokd.service.steps import Act, Link, MakeFolder, Remove, RemoveFolder, Run, Say, Step, Write
from ngrokd.service.systems import Facts, Init
from ngrokd.service.trust import Threat

SOURCES = shipping.sources(shipping.folder())
SHIPPED = installing.Shipped(SOURCES, b"# defaults\n", "/opt/ngrokd/init")
PATHS = rendering.Paths("/opt/ngrokd/bin/ngrokd", "/etc/ngrokd/config.yml")
CONFIG = "/etc/ngrokd/config.yml"
RC_FOLDERS = frozenset(f"/etc/rc{level}.d" for level in range(7))

SYSTEMD = Facts(systemd_runs=True, folders=frozenset({"/etc/systemd/system", "/etc/init.d"}))
OPENRC = Facts(openrc_runs=True, folders=frozenset({"/etc/runlevels/default", "/etc/init.d"}))
DEBIAN = Facts(
    first_process="init",
    folders=frozenset({"/etc/init.d", "/etc/logrotate.d"}) | RC_FOLDERS,
    tools=frozenset({"update-rc.d", "service", "bash", "man"}),
)
MAC = Facts(
    darwin=True,
    folders=frozenset({"/Library/LaunchDaemons"}),
    tools=frozenset({"launchctl"}),
)


class Machine:
    """A folder that a machine's files are in, and what is done to them."""

    def __init__(self, root: Path, facts: Facts) -> None:
        self.disk = Disk(files.write_atomic, files.remove_orphans, root)
        self.facts = facts
        self.commands: list[tuple[str, ...]] = []
        self.told: list[str] = []
        self.failing: tuple[str, ...] = ()
        for folder in facts.folders:
            self.disk.at(folder).mkdir(parents=True, exist_ok=True)

    @property
    def seen(self) -> installing.Machine:
        disk = self.disk
        return installing.Machine(self.facts, disk.found, disk.matches, disk.missing_folders)

    def plan(self, init: Init, paths: rendering.Paths = PATHS) -> list[Step]:
        return installing.plan(self.seen, init, SHIPPED, paths)

    def install(self, init: Init, paths: rendering.Paths = PATHS) -> list[Step]:
        done = self.plan(init, paths)
        self.apply(done)
        return done

    def uninstall(self, purge: bool = False) -> list[Step]:
        wish = removing.Wish(SOURCES, purge)
        done = [*removing.stopping(self.seen, wish), *removing.plan(self.seen, wish)]
        done += removing.plan_changed(self.seen, wish) if purge else []
        self.apply(done)
        return done

    def apply(self, done: list[Step]) -> None:
        applying.apply(done, self.tools({removing.STOP: ["stopped"]}))

    def tools(self, acts: Optional[Mapping[str, list[str]]] = None) -> applying.Tools:
        known = {name: (lambda lines=lines: lines) for name, lines in (acts or {}).items()}
        tell = self.told.append
        return applying.Tools(self.disk, self.run, self.run, known, tell, tell)

    def run(self, argv: object) -> None:
        words = tuple(map(str, argv))  # type: ignore[call-overload]
        if words == self.failing:
            raise HostError("it refuses")
        self.commands.append(words)

    def read(self, path: str) -> bytes:
        return self.disk.at(path).read_bytes()

    def put(self, path: str, content: bytes) -> None:
        self.disk.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.disk.at(path).write_bytes(content)

    def tree(self) -> dict[str, object]:
        root = self.disk.at("/")
        return {
            str(path.relative_to(root)): path.readlink() if path.is_symlink()
            else path.stat().st_mode if path.is_dir()
            else (path.stat().st_mode, path.read_bytes())
            for path in root.rglob("*")
        }  # fmt: skip


def says(planned: list[Step]) -> list[str]:
    return [step.text for step in planned if isinstance(step, Say)]


# Which init system


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (SYSTEMD, Init.SYSTEMD),
        (OPENRC, Init.OPENRC),
        (DEBIAN, Init.SYSV),
        (MAC, Init.LAUNCHD),
        (Facts(first_process="busybox", folders=frozenset({"/etc/init.d"})), Init.SYSV),
        (Facts(first_process="bash", folders=DEBIAN.folders), None),  # a container of Debian
        (Facts(first_process="systemd", folders=SYSTEMD.folders), None),  # a chroot
        (Facts(first_process="runit"), None),
        (Facts(), None),
    ],
)
def test_the_init_system_is_the_one_that_runs(facts: Facts, expected: Optional[Init]) -> None:
    assert systems.running(facts) is expected


def test_a_container_is_told_what_to_do_instead() -> None:
    with pytest.raises(HostError) as raised:
        systems.chosen(Facts(first_process="bash", folders=DEBIAN.folders), None)
    said = str(raised.value)
    assert "process 1 is bash" in said
    assert "ngrokd --foreground" in said and "--init sysv" in said


def test_an_image_can_be_prepared_for_an_init_system_that_does_not_run() -> None:
    facts = Facts(first_process="bash", folders=DEBIAN.folders)
    assert systems.chosen(facts, "sysv") is Init.SYSV
    with pytest.raises(HostError, match="/etc/systemd/system is not there"):
        systems.chosen(facts, "systemd")


# Marks


@given(st.binary(), st.sampled_from(["/a/ngrokd", "/a/ngrokd.8", "/a/x.yml.5", "/a/_ngrokd"]))
def test_a_marked_file_is_known_again_unchanged(body: bytes, path: str) -> None:
    if marks.read(body) is not None:
        return
    content = marks.stamped(body, path, CONFIG, ("/usr/local/share/a", "/b"))
    known = marks.read(content)
    assert known is not None
    assert not known.changed
    assert known.config == CONFIG
    assert known.folders == ("/usr/local/share/a", "/b")
    assert known.body.startswith(body)


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=10), st.integers(0, 40))
def test_any_change_of_a_marked_file_is_seen(body: bytes, more: bytes, place: int) -> None:
    content = marks.stamped(b"#!/bin/sh\n" + body, "/etc/init.d/ngrokd", CONFIG)
    changed = content[:place] + more + content[place:]
    known = marks.read(changed)
    assert known is None or known.changed or changed == content


@given(st.binary())
def test_whatever_a_file_holds_it_can_be_asked_for_its_mark(content: bytes) -> None:
    known = marks.read(content)
    assert known is None or isinstance(known.changed, bool)


def test_a_plist_stays_one() -> None:
    body = SOURCES["com.ngrok.ngrokd.plist"]
    content = marks.stamped(body, "/Library/LaunchDaemons/com.ngrok.ngrokd.plist", CONFIG)
    assert plistlib.loads(content) == plistlib.loads(body)
    known = marks.read(content)
    assert known is not None and known.body == body and not known.changed


# Rendering


@pytest.mark.parametrize("name", ["ngrokd.service", "ngrokd.init", "ngrokd.openrc"])
def test_an_init_file_names_this_machines_program_and_configuration(name: str) -> None:
    paths = rendering.Paths("/opt/x/bin/ngrokd", "/srv/ngrokd.yml")
    text = rendering.rendered(name, SOURCES[name], paths).decode()
    assert "/opt/x/bin/ngrokd" in text and "/srv/ngrokd.yml" in text
    assert "/usr/local/bin/ngrokd" not in text and "/etc/ngrokd/config.yml" not in text


def test_the_plist_names_them_too() -> None:
    paths = rendering.Paths("/opt/x/bin/ngrokd", "/srv/ngrokd.yml")
    name = "com.ngrok.ngrokd.plist"
    job = plistlib.loads(rendering.rendered(name, SOURCES[name], paths))
    assert job["ProgramArguments"] == ["/opt/x/bin/ngrokd", "--config=/srv/ngrokd.yml"]


def test_the_unit_may_write_where_the_configuration_says() -> None:
    paths = rendering.Paths(PATHS.program, CONFIG, ("/etc/ngrokd", "/srv/state", "/var/log"))
    unit = rendering.rendered("ngrokd.service", SOURCES["ngrokd.service"], paths).decode()
    assert "\nReadWritePaths=-/srv/state\n" in unit
    usual = rendering.Paths(PATHS.program, CONFIG, ("/etc/ngrokd", "/var/log", "/var/run"))
    plain = rendering.rendered("ngrokd.service", SOURCES["ngrokd.service"], usual).decode()
    assert unit.replace("ReadWritePaths=-/srv/state\n", "") == plain


@pytest.mark.parametrize(
    "path",
    ["/srv/a b", "/srv/100%.yml", "/srv/a$b", "relative", "/a\nb", '/a"b', "/a<b", "/x:~root/c"],
)
def test_a_path_that_an_init_file_cannot_carry_is_refused(path: str) -> None:
    with pytest.raises(HostError, match="cannot stand in an init file"):
        rendering.check(rendering.Paths(PATHS.program, path))
    with pytest.raises(HostError, match="cannot stand in an init file"):
        rendering.check(rendering.Paths(path, CONFIG))


# Installing


@pytest.mark.parametrize(
    ("facts", "init"),
    [(SYSTEMD, Init.SYSTEMD), (OPENRC, Init.OPENRC), (DEBIAN, Init.SYSV), (MAC, Init.LAUNCHD)],
)
def test_install_and_uninstall_leave_the_files_as_they_were(
    facts: Facts, init: Init, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, facts)
    machine.put(CONFIG, b"mine\n")
    before = machine.tree()

    machine.install(init)
    service = layout.SERVICES[init]
    assert marks.read(machine.read(service.path)) is not None
    assert machine.disk.at(service.path).stat().st_mode & 0o777 == service.mode
    machine.uninstall()

    assert machine.tree() == before


def test_a_new_configuration_is_closed_to_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.install(Init.SYSV)
    assert machine.read(CONFIG) == SHIPPED.config
    assert machine.disk.at(CONFIG).stat().st_mode & 0o777 == 0o600
    assert machine.disk.at("/etc/ngrokd").stat().st_mode & 0o777 == 0o700


def test_a_second_install_has_nothing_to_do(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.install(Init.SYSV)
    for level in (2, 3, 4, 5):
        machine.disk.link(f"/etc/rc{level}.d/S01ngrokd", "../init.d/ngrokd")
    assert machine.plan(Init.SYSV) == []


def test_what_is_shown_is_what_is_done(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    applying.show(machine.plan(Init.SYSV), machine.tools())
    assert machine.commands == [] and machine.disk.found("/etc/init.d/ngrokd").is_nothing
    shown = [line.partition("would ")[2] for line in machine.told]
    planned = machine.install(Init.SYSV)
    assert shown == [steps.text_of(step) for step in planned]
    assert machine.commands == [("update-rc.d", "ngrokd", "defaults")]


def test_an_init_file_of_an_older_version_is_replaced(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SYSTEMD)
    path = "/etc/systemd/system/ngrokd.service"
    old = marks.stamped(b"# ngrok's Kubernetes-bound endpoints, of old\n", path, CONFIG, ("/x",))
    machine.put(path, old)
    machine.install(Init.SYSTEMD)
    known = marks.read(machine.read(path))
    assert known is not None and b"Type=notify" in known.body
    assert known.folders == ("/x", "/etc/default")
    assert ("systemctl", "daemon-reload") in machine.commands


def test_a_program_that_moved_is_written_anew(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SYSTEMD)
    machine.install(Init.SYSTEMD)
    machine.install(Init.SYSTEMD, rendering.Paths("/new/ngrokd", CONFIG))
    assert b"ExecStart=/new/ngrokd" in machine.read("/etc/systemd/system/ngrokd.service")


@pytest.mark.parametrize("path", ["/etc/init.d/ngrokd", "/etc/default/ngrokd"])
def test_a_file_that_was_changed_stays(path: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.install(Init.SYSV)
    changed = machine.read(path) + b"MINE=1\n"
    machine.put(path, changed)

    again = machine.install(Init.SYSV)
    removed = machine.uninstall()

    assert machine.read(path) == changed
    assert any(path in text and "stays" in text for text in says(again))
    assert any(path in text and "--purge" in text for text in says(removed))
    machine.uninstall(purge=True)
    assert machine.disk.found(path).is_nothing


def test_who_changed_a_file_learns_how_to_see_what_is_new(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    path = "/etc/default/ngrokd"
    machine.put(path, marks.stamped(b"# of an older version\n", path, CONFIG) + b"MINE=1\n")
    said = says(machine.install(Init.SYSV))
    assert any(f"diff {path} /opt/ngrokd/init/ngrokd.default" in text for text in said)


@pytest.mark.parametrize(
    ("init", "facts"), [(Init.SYSTEMD, SYSTEMD), (Init.SYSV, DEBIAN), (Init.LAUNCHD, MAC)]
)
def test_an_init_file_of_another_origin_is_named_and_nothing_is_done(
    init: Init, facts: Facts, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, facts)
    path = layout.SERVICES[init].path
    machine.put(path, b"#!/bin/sh\n# another ngrokd\n")
    before = machine.tree()
    with pytest.raises(HostError) as raised:
        machine.install(init)
    assert path in str(raised.value) and "did not write" in str(raised.value)
    machine.uninstall(purge=True)
    assert machine.tree() == before and machine.commands == []


def test_a_masked_unit_is_told_with_its_mend(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SYSTEMD)
    machine.disk.link("/etc/systemd/system/ngrokd.service", "/dev/null")
    with pytest.raises(HostError, match="systemctl unmask"):
        machine.install(Init.SYSTEMD)


def test_settings_of_another_origin_stay_and_are_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.put("/etc/default/ngrokd", b"CONFIG=/mine.yml\n")
    said = says(machine.install(Init.SYSV))
    assert machine.read("/etc/default/ngrokd") == b"CONFIG=/mine.yml\n"
    assert any("/etc/default/ngrokd stays" in text for text in said)


@pytest.mark.parametrize("folder", ["/usr/lib/systemd/system", "/usr/local/lib/systemd/system"])
def test_a_packages_unit_is_used_and_outlives_uninstall(folder: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, SYSTEMD)
    machine.put(f"{folder}/ngrokd.service", SOURCES["ngrokd.service"])
    machine.install(Init.SYSTEMD)
    assert machine.disk.found("/etc/systemd/system/ngrokd.service").is_nothing
    assert ("systemctl", "enable", "ngrokd.service") in machine.commands
    machine.uninstall(purge=True)
    assert machine.read(f"{folder}/ngrokd.service") == SOURCES["ngrokd.service"]


def test_manuals_that_cannot_be_written_are_told_and_no_more(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.put("/usr/local", b"a file where a folder should be")
    machine.install(Init.SYSV)
    assert machine.commands == [("update-rc.d", "ngrokd", "defaults")]
    assert any(line.startswith("not done: ") for line in machine.told)


def test_an_install_that_failed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.failing = ("update-rc.d", "ngrokd", "defaults")
    with pytest.raises(HostError, match="it refuses"):
        machine.install(Init.SYSV)
    machine.failing = ()
    assert machine.install(Init.SYSV) == [Run(("update-rc.d", "ngrokd", "defaults"))]


def test_the_job_of_launchd_is_stopped_before_its_plist_goes(tmp_path: Path) -> None:
    machine = Machine(tmp_path, MAC)
    machine.install(Init.LAUNCHD)
    assert machine.commands == [("launchctl", "enable", "system/com.ngrok.ngrokd")]
    machine.told.clear()
    shown = [steps.text_of(step) for step in machine.uninstall()]
    assert shown[0] == "run launchctl bootout system/com.ngrok.ngrokd"
    assert shown[-1] == f"remove {layout.SERVICES[Init.LAUNCHD].path}"
    assert machine.told[0] == "stopped"


def test_a_plist_that_is_a_link_is_the_service_and_is_named_when_it_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path, MAC)
    path = layout.SERVICES[Init.LAUNCHD].path
    place = machine.disk.at(path)
    place.symlink_to("/opt/somebody/ngrokd.plist")
    assert control.service(machine.disk.found, Init.LAUNCHD) is not None
    done = machine.uninstall()
    assert isinstance(done[0], Act), "through launchd, which would start it again"
    (said,) = says(done)
    assert said.startswith(f"{path} stays, and starts it at the next boot: it is a link")
    assert place.is_symlink()


def test_a_launchctl_that_cannot_enable_is_told_and_no_more(tmp_path: Path) -> None:
    machine = Machine(tmp_path, MAC)
    machine.failing = ("launchctl", "enable", "system/com.ngrok.ngrokd")
    machine.install(Init.LAUNCHD)
    assert any(line.startswith("not done: run launchctl enable") for line in machine.told)


@pytest.mark.parametrize(("platform", "is_mac"), [("darwin", True), ("linux", False)])
def test_launchd_is_what_runs_on_macos(platform: str, is_mac: bool, tmp_path: Path) -> None:
    disk = Disk(files.write_atomic, files.remove_orphans, tmp_path)
    facts = looking.look(disk, lambda tool: None, platform)
    assert (systems.running(facts) is Init.LAUNCHD) is is_mac


# Enabling


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("update-rc.d", ("update-rc.d", "ngrokd", "defaults")),
        ("chkconfig", ("chkconfig", "--add", "ngrokd")),
        ("insserv", ("insserv", "ngrokd")),
    ],
)
def test_a_script_is_enabled_with_the_machines_own_tool(tool: str, command: object) -> None:
    facts = Facts(folders=DEBIAN.folders, tools=frozenset({tool}))
    first = enabling.enable(Init.SYSV, facts)[0]
    assert first == Run(command)  # type: ignore[arg-type]


@pytest.mark.parametrize("root", ["/etc", "/etc/rc.d"])
def test_without_a_tool_the_links_of_the_runlevels_are_made(root: str, tmp_path: Path) -> None:
    folders = {f"{root}/rc{level}.d" for level in range(7)} | {"/etc/init.d"}
    machine = Machine(tmp_path, Facts(first_process="init", folders=frozenset(folders)))
    machine.install(Init.SYSV)
    links = {str(link) for link in (tmp_path / root[1:]).glob("rc?.d/*ngrokd")}
    assert len(links) == 7
    assert (tmp_path / root[1:] / "rc2.d/S90ngrokd").is_symlink()
    assert (tmp_path / root[1:] / "rc6.d/K10ngrokd").is_symlink()
    assert machine.plan(Init.SYSV) == []
    machine.uninstall()
    assert not list((tmp_path / root[1:]).glob("rc?.d/*ngrokd"))


def test_busybox_starts_what_is_named_so_in_its_own_folder(tmp_path: Path) -> None:
    facts = Facts(first_process="init", folders=frozenset({"/etc/init.d"}))
    machine = Machine(tmp_path, facts)
    machine.install(Init.SYSV)
    link = tmp_path / "etc/init.d/S90ngrokd"
    assert link.resolve() == tmp_path / "etc/init.d/ngrokd"
    assert machine.plan(Init.SYSV) == []
    machine.uninstall()
    assert not link.is_symlink()


def test_openrc_forgets_the_service_in_each_runlevel_it_was_added_to(tmp_path: Path) -> None:
    facts = Facts(openrc_runs=True, folders=OPENRC.folders, tools=frozenset({"rc-update"}))
    machine = Machine(tmp_path, facts)
    machine.install(Init.OPENRC)
    machine.put("/etc/runlevels/boot/ngrokd", b"")
    machine.put("/etc/runlevels/default/ngrokd", b"")
    machine.uninstall()
    assert [words for words in machine.commands if words[1] == "del"] == [
        ("rc-update", "del", "ngrokd", "boot"),
        ("rc-update", "del", "ngrokd", "default"),
    ]


# Whose service


def test_the_two_kinds_of_init_scripts_are_told_apart(tmp_path: Path) -> None:
    machine = Machine(tmp_path, OPENRC)
    machine.put("/etc/init.d/ngrokd", SOURCES["ngrokd.openrc"])
    found = machine.disk.found
    assert control.is_ours(found, Init.OPENRC) and not control.is_ours(found, Init.SYSV)
    machine.put("/etc/init.d/ngrokd", SOURCES["ngrokd.init"])
    assert control.is_ours(found, Init.SYSV) and not control.is_ours(found, Init.OPENRC)
    machine.put("/etc/init.d/ngrokd", b"#!/bin/sh\n# another ngrokd\n")
    assert not control.is_ours(found, Init.SYSV)


def test_the_service_knows_its_configuration(tmp_path: Path) -> None:
    machine = Machine(tmp_path, SYSTEMD)
    machine.install(Init.SYSTEMD, rendering.Paths(PATHS.program, "/srv/ngrokd.yml"))
    facts = Facts(systemd_runs=True, tools=frozenset({"systemctl"}))
    assert control.installed(facts, machine.disk.found) == control.Service(
        Init.SYSTEMD, "/srv/ngrokd.yml"
    )
    assert control.installed(Facts(), machine.disk.found) is None


@given(st.text())
def test_any_text_in_the_defaults_file_is_read_without_a_fault(text: str) -> None:
    found = Found(text.encode("utf-8", "surrogatepass"))
    assert isinstance(defaults.variables(lambda path: found), dict)


def test_the_defaults_file_is_read_as_a_shell_would(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    text = """
#CONFIG=/not/this
CONFIG=/old.yml
 export NGROK_API_KEY='a b'   # why
CONFIG="/srv/my.yml"
DAEMON_ARGS="$OTHER"
SUM=$(sum)
EMPTY=
"""
    machine.put("/etc/default/ngrokd", text.encode())
    wanted = {"CONFIG": "/srv/my.yml", "NGROK_API_KEY": "a b", "EMPTY": ""}
    assert defaults.variables(machine.disk.found) == wanted


def test_the_defaults_file_names_the_services_configuration(tmp_path: Path) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.install(Init.SYSV)
    machine.put("/etc/default/ngrokd", b"CONFIG=/srv/my.yml\n")
    assert control.service(machine.disk.found, Init.SYSV) == control.Service(
        Init.SYSV, "/srv/my.yml"
    )


# What a killed run leaves


def test_half_written_files_of_a_killed_run_are_removed_and_those_of_others_stay(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, DEBIAN)
    half = "/etc/logrotate.d/.ngrokd.ngrokd-4194304-0123456789abcdef"
    config = "/etc/ngrokd/.config.yml.ngrokd-4194304-0123456789abcdef"
    other = "/etc/logrotate.d/.ngrokd.swp"
    for path in (half, config, other, f"{half}.bak"):
        machine.put(path, b"")
    machine.install(Init.SYSV)
    assert machine.disk.found(half).is_nothing and f"removed {half}" in machine.told
    assert machine.disk.found(config).is_nothing
    machine.put(half, b"")
    machine.uninstall()
    assert machine.disk.found(half).is_nothing
    assert not machine.disk.found(other).is_nothing
    assert not machine.disk.found(f"{half}.bak").is_nothing


@pytest.mark.parametrize("done_before", range(0, 24, 3))
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_folders_that_were_made_are_known_however_early_a_run_is_killed(
    verb: str, done_before: int, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, DEBIAN)
    machine.put(CONFIG, b"mine\n")
    before = machine.tree()
    if verb == "install":
        machine.apply(machine.plan(Init.SYSV)[:done_before])
    else:
        machine.install(Init.SYSV)
        machine.apply(removing.plan(machine.seen, removing.Wish(SOURCES))[:done_before])
    if verb == "install":
        machine.install(Init.SYSV)
    machine.uninstall()
    assert machine.tree() == before


# Who could replace what root runs


def test_who_could_replace_a_file_is_found_on_every_link_of_its_way(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: folders of other users")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir(mode=0o755)
    (theirs / "link").symlink_to(ours)
    os.chown(theirs, 65534, 65534)
    found = trust.threats(f"{theirs}/link/config.yml")
    assert [threat.place for threat in found if str(theirs) in threat.place] == [str(theirs)]
    ours.chmod(0o1777)
    assert not [threat for threat in trust.threats(f"{ours}/x") if threat.place == str(ours)]
    assert str(ours) in [threat.place for threat in trust.newcomers(f"{ours}/x")]
    ours.chmod(0o777)
    assert Threat(str(ours), "everybody", everybody=True) in trust.threats(f"{ours}/x")
    ours.chmod(0o775)
    os.chown(ours, 0, 65534)  # nobody's primary group
    assert Threat(str(ours), "group 65534") in trust.threats(f"{ours}/x")


def test_a_way_that_leads_to_itself_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    assert isinstance(trust.threats(f"{tmp_path}/a/b"), list)


@pytest.mark.parametrize(
    "line", ["#!{}", "#! {} -I", "#!/usr/bin/env {}", "#!/usr/bin/env -S {} -I"]
)
def test_an_interpreter_that_everybody_may_write_to_is_refused(line: str, tmp_path: Path) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\n")
    interpreter.chmod(0o777)
    script = tmp_path / "ngrokd"
    script.write_text(line.format(interpreter) + "\n")
    with pytest.raises(HostError, match=f"everybody may write to {interpreter}"):
        program.check(str(script), lambda argv: "ngrokd 1")
    interpreter.chmod(0o755)
    program.check(str(script), lambda argv: "ngrokd 1")


# Purging


def made_pair() -> tuple[bytes, bytes, bytes]:
    """A key, its request as ngrokd makes it, and a certificate for it."""
    key = keys.new_key()
    request = x509.load_pem_x509_csr(keys.signing_request(key).encode())
    issuer = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an issuer")])
    now = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(name, name, request.public_key(), 1, now, now)
    certificate = builder.sign(issuer, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return key, request.public_bytes(pem), certificate.public_bytes(pem)


KEY, REQUEST, CERTIFICATE = made_pair()
OTHER_KEY, OTHER_REQUEST, OTHER_CERTIFICATE = made_pair()
STATE = {
    "operator_id": b"k8sop_0123456789\n",
    "installation_id": b"0" * 32 + b"\n",
    "registration.json": b'{"operator_id": "", "ingress_endpoint": "", "selectors": []}',
    "api_key": b"a-key\n",
    "ip_mappings.json": b'{"a.b": "10.107.0.2"}',
    "network_ports.json": b"\0\0\0\0",  # after a power cut
    "endpoints.json": b'{"endpoints": [], "skipped": []}',
    "last_run.json": b'{"used": []}',
    "aliases.json": b'{"boot": "7A1F", "addresses": []}',
    "endpoints.json.corrupt": b"{",
    ".endpoints.json.ngrokd-12-0123456789abcdef": b"",
    ".operator_id.0123456789abcdef.tmp": b"",
    ".config.yml.ngrokd-12-0123456789abcdef": b"",
}


@pytest.mark.parametrize("told", [Told(), Told("k8sop_1", "a:1", Profile((), "h", "1"), True)])
def test_what_is_written_of_the_registration_is_known_as_ours(tmp_path: Path, told: Told) -> None:
    recordfile.write(tmp_path, told)
    content = (tmp_path / recordfile.NAME).read_bytes()
    assert ownership.is_state(recordfile.NAME, content)
    assert not ownership.is_state(recordfile.NAME, content.replace(b"operator_id", b"another"))


PAIR = {"tls.key": KEY, "tls.crt": CERTIFICATE, "tls.csr": REQUEST, "tls.crt.corrupt": b"x"}


class Purged:
    """A machine with such files in folders, and what a purge of it would do."""

    def __init__(self, root: Path, where: Mapping[str, Mapping[str, bytes]]) -> None:
        self.machine = Machine(root, Facts())
        for folder, contents in where.items():
            for name, content in contents.items():
                self.machine.put(f"{folder}/{name}", content)

    def purge(self, path: str = CONFIG, **server: str) -> list[str]:
        config = Config(server=ServerSettings(**server))  # type: ignore[arg-type]
        disk = self.machine.disk
        done = [*purging.state(config, path, disk), *purging.logs(config, disk)]
        self.machine.apply(done)
        return says(done)

    @property
    def left(self) -> set[str]:
        root = self.machine.disk.at("/")
        return {f"/{each.relative_to(root)}" for each in root.rglob("*") if not each.is_dir()}


def in_folder(folder: str) -> dict[str, str]:
    return {"client_cert": f"{folder}/tls.crt", "client_key": f"{folder}/tls.key"}


@pytest.mark.parametrize("folder", ["/etc/ngrokd", "/srv/x", "/var/lib/x"])
def test_a_purge_takes_the_whole_state_folder(folder: str, tmp_path: Path) -> None:
    here = Purged(tmp_path, {folder: {**STATE, **PAIR, "config.yml": b"# mine"}})
    assert here.purge(f"{folder}/config.yml", **in_folder(folder)) == []
    assert here.left == set() and not here.machine.disk.is_folder(folder)


def test_the_trust_anchor_goes_with_the_folder_and_those_that_it_replaced(tmp_path: Path) -> None:
    names = ("ca.crt", "ca.crt.before", "ca.crt.before-12", ".ca.crt.0123456789abcdef.tmp")
    anchors = dict.fromkeys(names, b"PEM")
    here = Purged(tmp_path, {"/etc/ngrokd": {**STATE, **PAIR, **anchors}})
    here.purge()
    assert here.left == set()
    kept = Purged(tmp_path / "more", {"/etc/ngrokd": {**STATE, **PAIR, **anchors, "notes": b""}})
    kept.purge()
    assert {f"/etc/ngrokd/{name}" for name in names[:3]} <= kept.left


def test_the_copy_of_the_hosts_file_goes_too_and_what_a_kill_left_of_one(tmp_path: Path) -> None:
    ours = ("hosts.ngrokd.bak", "hosts.ngrokd.journal", f".hosts.ngrokd.bak.ngrokd-7-{'a' * 16}")
    files = dict.fromkeys((*ours, "hosts.bak", "notes"), b"127.0.0.1 localhost\n")
    here = Purged(tmp_path, {"/etc/ngrokd": {**STATE, **files}})
    here.purge()
    assert here.left == {"/etc/ngrokd/hosts.bak", "/etc/ngrokd/notes"}


def test_the_pair_of_a_renewal_that_was_cut_short_is_ours_too(tmp_path: Path) -> None:
    pair = {**PAIR, "tls.key.next": OTHER_KEY, "tls.csr": OTHER_REQUEST}
    here = Purged(tmp_path, {"/etc/ngrokd": {**STATE, **pair, "notes": b""}})
    here.purge()
    assert here.left == {"/etc/ngrokd/notes", "/etc/ngrokd/tls.crt.corrupt"}


SYSTEM_FOLDERS = [
    "", "/etc", "/etc/ssl/private", "/etc/ssl/certs", "/usr/lib/x", "/var/lib", "/home/me",
    "/root", "/tmp", "/dev/shm", "/boot/efi",
]  # fmt: skip


@pytest.mark.parametrize("folder", SYSTEM_FOLDERS)
def test_a_purge_takes_nothing_from_a_folder_of_the_system(folder: str, tmp_path: Path) -> None:
    here = Purged(tmp_path, {folder: {**STATE, **PAIR, "fstab": b""}})
    before = here.left
    said = here.purge(**in_folder(folder))
    assert here.left == before
    assert "stays with aliases.json, api_key, " in said[0] and "fstab" not in said[0]


def test_a_purge_takes_nothing_from_a_folder_that_is_not_provably_ours(tmp_path: Path) -> None:
    foreign = {**STATE, **PAIR, "installation_id": b"something else\n"}
    here = Purged(tmp_path, {"/srv/app": foreign})
    before = here.left
    said = here.purge(**in_folder("/srv/app"))
    assert here.left == before
    assert any("/srv/app stays" in text and "proves" in text for text in said)


def test_a_file_of_our_name_with_foreign_content_stays(tmp_path: Path) -> None:
    foreign = {
        "tls.key": OTHER_KEY, "tls.crt": OTHER_CERTIFICATE, "tls.csr": b"no request",
        "api_key": b"two words\n", "endpoints.json": b'{"mine": 1}',
    }  # fmt: skip
    here = Purged(tmp_path, {"/etc/ngrokd": {**STATE, **foreign}})
    said = here.purge()
    assert here.left == {f"/etc/ngrokd/{name}" for name in foreign}
    assert any(name in said[0] for name in foreign)


def test_a_key_that_others_may_use_stays(tmp_path: Path) -> None:
    names = {"installation_id": STATE["installation_id"], "site.conf": b"", **PAIR}
    here = Purged(tmp_path, {"/srv/site": names, "/srv/keys": {"x.key": KEY}})
    here.purge(**in_folder("/srv/site"))
    assert "/srv/site/tls.key" in here.left and "/srv/site/tls.crt" not in here.left
    said = here.purge(client_cert="/srv/site/tls.crt", client_key="/srv/keys/x.key")
    assert "/srv/keys/x.key" in here.left and "/srv/keys/x.key stays" in said[0]


def test_what_is_no_ordinary_file_stays_and_is_told(tmp_path: Path) -> None:
    here = Purged(tmp_path, {"/srv": {"victim": b"0" * 32}, "/var/log": {"ngrokd.log": b""}})
    disk = here.machine.disk
    for folder in ("/etc/ngrokd/api_key", "/var/log/ngrokd.log.1"):
        disk.at(folder).mkdir(parents=True)
    disk.at("/etc/ngrokd/operator_id").symlink_to(disk.at("/srv/victim"))
    said = here.purge()
    assert here.left == {"/etc/ngrokd/operator_id", "/srv/victim"}
    assert disk.is_folder("/etc/ngrokd/api_key") and disk.is_folder("/var/log/ngrokd.log.1")
    assert "api_key, operator_id" in said[0]
    assert said[1] == "/var/log/ngrokd.log.1 stays: it is no ordinary file"


def test_a_state_folder_behind_a_link_is_told_with_where_it_leads(tmp_path: Path) -> None:
    here = Purged(tmp_path, {"/srv/st": {**STATE, "config.yml": b""}})
    disk = here.machine.disk
    disk.at("/etc").mkdir()
    disk.at("/etc/ngrokd").symlink_to(disk.at("/srv/st"))
    assert here.purge() == ["/etc/ngrokd stays: it is a link to /srv/st"]
    assert not disk.is_folder("/srv/st") and "removed folder /etc/ngrokd" not in here.machine.told


def test_where_etc_is_a_link_the_folder_in_it_is_none(tmp_path: Path) -> None:
    here = Purged(tmp_path, {"/private/etc/ngrokd": {**STATE, **PAIR, "config.yml": b""}})
    disk = here.machine.disk
    disk.at("/etc").symlink_to("private/etc")
    assert here.purge() == [] and here.left == set()
    assert not disk.is_folder("/etc/ngrokd")


def test_where_etc_is_a_link_the_emptied_folder_of_the_configuration_goes_too(
    tmp_path: Path,
) -> None:
    here = Purged(tmp_path, {"/private/etc/ngrokd": {"config.yml": b""}, "/srv/st": STATE})
    disk = here.machine.disk
    disk.at("/etc").symlink_to("private/etc")
    assert here.purge(**in_folder("/srv/st")) == []
    assert not disk.is_folder("/etc/ngrokd") and not disk.is_folder("/srv/st")


@pytest.mark.parametrize(
    "folder",
    [
        *("/private", "/private/etc", "/private/etc/ssl", "/private/var", "/private/var/root"),
        *("/Library/LaunchDaemons", "/System/Library", "/Applications/x", "/Volumes/x"),
        *("/Users", "/Users/me"),
    ],
)
def test_macoss_own_folders_and_everybodys_are_the_systems(folder: str, tmp_path: Path) -> None:
    here = Purged(tmp_path, {folder: {**STATE, **PAIR}})
    before = here.left
    (said, *_) = here.purge(**in_folder(folder))
    assert here.left == before and "it is no folder of ngrokd's own" in said


@pytest.mark.parametrize(
    "folder",
    ["/private/etc/ngrokd", "/private/var/db/x", "/Users/me/x", "/Library/Application/ngrokd"],
)
def test_a_folder_of_macoss_that_is_provably_ours_goes(folder: str, tmp_path: Path) -> None:
    here = Purged(tmp_path, {folder: {**STATE, **PAIR}})
    assert here.purge(**in_folder(folder)) == [] and here.left == set()


def test_many_files_that_stay_are_counted(tmp_path: Path) -> None:
    here = Purged(tmp_path, {"/etc/ngrokd": {f"note{number:03}": b"" for number in range(150)}})
    here.machine.put(CONFIG, b"")
    said = here.purge()
    assert "note009 and 140 more" in said[0] and "note010" not in said[0]


def test_a_configuration_of_the_users_own_stays(tmp_path: Path) -> None:
    here = Purged(tmp_path, {"/etc/ngrokd": STATE, "/home/me": {"my.yml": b""}})
    assert here.purge("/home/me/my.yml") == ["/home/me/my.yml stays: it is your own"]
    assert here.left == {"/home/me/my.yml"}


def test_a_purge_takes_the_logs_that_were_rotated_away_and_no_others(tmp_path: Path) -> None:
    names = ["ngrokd.log", "ngrokd.log.1", "ngrokd.log.2.gz", "ngrokd.log-20260131.gz"]
    others = ["ngrokd.log.old", "ngrokd-other.log", "syslog", "ngrokd.log.1.bak"]
    here = Purged(tmp_path, {"/var/log": dict.fromkeys([*names, *others], b"")})
    assert here.purge(log_file="syslog") == []
    assert here.purge() == []
    assert here.left == {f"/var/log/{name}" for name in others}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/var/log/messages", "/dev/null", "/usr/bin/ngrokd", "/srv/two.log"]
)
def test_a_log_that_may_be_anothers_stays_and_is_told(path: str, tmp_path: Path) -> None:
    folder, _, name = path.rpartition("/")
    here = Purged(tmp_path, {folder: {name: b"", f"{name}.1": b"", f"{name}-20260101.gz": b""}})
    before = here.left
    said = here.purge(log_file=path)
    assert said == [f"{path} stays: by its name it may be another program's"]
    assert here.left == before


@given(st.binary(max_size=200))
def test_any_content_can_be_asked_whether_it_is_ours(content: bytes) -> None:
    for name in ownership.STATE:
        assert isinstance(ownership.is_state(name, content), bool)
    pem = b"-----BEGIN X-----\n" + base64.b64encode(content) + b"\n-----END X-----\n"
    for of_request in (False, True):
        assert ownership.public_key(pem, of_request) is None
    assert not ownership.is_key_of(content, b"")


# Applying


def test_every_step_tells_what_it_did(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Facts())
    done: list[Step] = [
        MakeFolder("/a", 0o700), Write("/a/b", b"x", 0o640), Link("/a/c", "b"), Run(("tool", "x")),
        Act("greet", "greet"), Say("so"), Remove("/a/b"), RemoveFolder("/a"), Remove("/a/c"),
        RemoveFolder("/a"), RemoveFolder("/a"),
    ]  # fmt: skip
    applying.apply(done, machine.tools({"greet": ["hello"]}))
    assert machine.told == [
        "made folder /a", "wrote /a/b", "linked /a/c", "ran tool x", "hello", "so", "removed /a/b",
        "/a stays: it is not empty", "removed /a/c", "removed folder /a",
    ]  # fmt: skip


def test_a_step_that_fails_ends_it_unless_it_is_of_no_matter(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Facts())
    machine.failing = ("tool",)
    machine.apply([Run(("tool",), harmless=True), Run(("tool",), extra=True), Run(("next",))])
    assert machine.told == ["not done: run tool: it refuses", "ran next"]
    with pytest.raises(NgrokdError, match="it refuses"):
        machine.apply([Run(("tool",)), Run(("never",))])
    assert ("never",) not in machine.commands
