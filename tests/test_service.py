"""What `ngrokd install` and `uninstall` decide to do, on machines of every kind."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    marks,
    purging,
    removing,
    rendering,
    shipping,
    steps,
    systems,
)
from ngrokd.service.disk import Disk, Found
from ngrokd.service.steps import Act, Link, MakeFolder, Remove, RemoveFolder, Run, Say, Step, Write
from ngrokd.service.systems import Facts, Init

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
        self.disk = Disk(files.write_atomic, root)
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
        done = removing.plan(self.seen, wish)
        done += removing.plan_changed(self.seen, wish) if purge else []
        self.apply(done)
        return done

    def apply(self, done: list[Step]) -> None:
        applying.apply(done, self.tools())

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
    "path", ["/srv/my config.yml", "/srv/100%.yml", "/srv/a$b", "relative", "/a\nb", '/a"b', "/a<b"]
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
    assert known.folders == ("/x",)
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


# Purging

FULL = (
    "config.yml", "ca.crt", "operator_id", "registration.json", "installation_id", "api_key",
    "tls.crt", "tls.key", "tls.csr", "tls.key.next", "tls.crt.corrupt",
    "ip_mappings.json", "network_ports.json", "endpoints.json",
    ".endpoints.json.ngrokd-12-0123456789abcdef", ".operator_id.0123456789abcdef.tmp",
)  # fmt: skip


def purged(config: Config, folders: Mapping[str, tuple[str, ...]], path: str) -> list[Step]:
    return purging.state(config, path, lambda folder: folders.get(folder, ()))


def test_a_purge_takes_the_whole_state_folder() -> None:
    done = purged(Config(), {"/etc/ngrokd": FULL}, CONFIG)
    removed = {step.path for step in done if isinstance(step, Remove)}
    assert removed == {f"/etc/ngrokd/{name}" for name in FULL}
    assert done[-1] == RemoveFolder("/etc/ngrokd")


def test_a_purge_touches_nothing_in_a_state_folder_that_is_not_ours() -> None:
    server = ServerSettings(client_cert="/etc/ssl/private/x.crt", client_key="/etc/ssl/keys/x.key")
    folders = {
        "/etc/ssl/private": ("x.crt", "ca.crt", "config.yml", "operator_id", "other.pem"),
        "/etc/ssl/keys": ("x.key", "other.key"),
        "/etc/ngrokd": ("config.yml",),
    }
    done = purged(Config(server=server), folders, CONFIG)
    removed = {step.path for step in done if isinstance(step, Remove)}
    ours = {"/etc/ssl/private/x.crt", "/etc/ssl/private/operator_id", "/etc/ssl/keys/x.key"}
    assert removed == {*ours, CONFIG}
    assert RemoveFolder("/etc/ssl/private") not in done
    assert any("other.pem" in text for text in says(done))


def test_a_configuration_of_the_users_own_stays() -> None:
    done = purged(Config(), {"/etc/ngrokd": FULL, "/home/me": ("my.yml",)}, "/home/me/my.yml")
    assert says(done) == ["/home/me/my.yml stays: it is your own"]
    assert Remove("/home/me/my.yml") not in done


def test_a_purge_takes_the_logs_that_were_rotated_away_and_no_others() -> None:
    names = ["ngrokd.log", "ngrokd.log.1", "ngrokd.log.2.gz", "ngrokd.log-20260131.gz"]
    others = ["ngrokd.log.old", "ngrokd-other.log", "syslog", "ngrokd.log.1.bak"]
    done = purging.logs(Config(), lambda folder: [*names, *others])
    assert done == [Remove(f"/var/log/{name}") for name in sorted(names)]
    syslog = Config(server=ServerSettings(log_file="syslog"))
    assert purging.logs(syslog, lambda folder: names) == []


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
