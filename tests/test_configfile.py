"""config.yml: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import dataclasses
import grp
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd import configfile
from ngrokd.config import ApiSettings, Config, NetSettings, ServerSettings
from ngrokd.configtext import written
from ngrokd.configtext.schema import KEYS, SECTIONS, value_in
from ngrokd.errors import ConfigError
from ngrokd.reload import needs_restart

DOCS = Path(__file__).parent.parent / "docs"


def parse(
    text: str,
    environ: Optional[Mapping[str, str]] = None,
    overlay: Optional[Mapping[str, object]] = None,
) -> Config:
    return configfile.parse(text, "config.yml", environ, overlay)


def faults(text: str, **more: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, **more)
    return caught.value.faults


def the_fault(text: str, **more: Any) -> str:
    found = faults(text, **more)
    assert len(found) == 1, found
    return found[0]


def setting(dotted: str, value: str) -> str:
    section, _, name = dotted.rpartition(".")
    return f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n"


def value_of(dotted: str, value: str) -> object:
    key = next(key for key in KEYS if key.dotted == dotted)
    return value_in(parse(setting(dotted, value)), key)


# Defaults


def test_the_default_text_says_the_built_in_values() -> None:
    assert parse(configfile.DEFAULT_TEXT) == Config()


def test_the_default_text_names_every_key() -> None:
    for key in KEYS:
        assert re.search(rf"^ *{key.name}:", configfile.DEFAULT_TEXT, re.MULTILINE), key.dotted


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "null\n", "{}\n"])
def test_an_empty_file_is_the_defaults(text: str) -> None:
    assert parse(text) == Config()


def test_sections_without_lines_are_the_defaults() -> None:
    assert parse("".join(f"{section}:\n" for section in SECTIONS)) == Config()


def test_every_field_of_the_configuration_can_be_set() -> None:
    fields = {
        (name, field.name)
        for name in SECTIONS
        for field in dataclasses.fields(getattr(Config(), name))
    }
    assert {(key.section, key.field) for key in KEYS if key.section} == fields


def test_every_default_passes_its_own_check() -> None:
    for key in KEYS:
        if not key.name_check:
            assert key.check(value_in(Config(), key)) == value_in(Config(), key), key.dotted


# Values that are taken


@pytest.mark.parametrize(
    ("dotted", "text", "value"),
    [
        ("api.url", "https://api.example.com/v2/", "https://api.example.com/v2"),
        ("api.url", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("api.url", "http://localhost:1", "http://localhost:1"),
        ("api.url", "http://[::1]:80", "http://[::1]:80"),
        ("api.key", "2abc_DEF", "2abc_DEF"),
        ("api.key", "", ""),
        ("ingressEndpoint", "Ingress.Example.COM", "ingress.example.com:443"),
        ("ingressEndpoint", "10.0.0.1:8443", "10.0.0.1:8443"),
        ("ingressEndpoint", "'[2001:DB8::0:1]'", "[2001:db8::1]:443"),
        ("ingressEndpoint", "'[::1]:8443'", "[::1]:8443"),
        ("ingressEndpoint", '""', ""),
        ("ingressEndpoint", "", ""),
        ("server.log_file", "syslog", "syslog"),
        ("server.log_file", "", ""),
        ("server.health_port", "0", 0),
        ("bound_endpoints.poll_interval", "1", 1),
        ("bound_endpoints.poll_interval", "2.5", 2.5),
        ("bound_endpoints.poll_interval", "86400", 86400),
        ("bound_endpoints.selectors", '["true", "a == \'b\'"]', ("true", "a == 'b'")),
        ("net.subnet", "127.107.0.0/16", "127.107.0.0/16"),
        ("net.subnet", "8.8.8.0/30", "8.8.8.0/30"),
        ("net.interface_name", "ngrokd-0_123.45", "ngrokd-0_123.45"),
        ("net.listen_interface", "0.0.0.0", "0.0.0.0"),
        ("net.listen_interface", "eth0", "eth0"),
        ("net.listen_interface", "Virtual", "virtual"),
        ("net.overrides", "", {}),
        ("net.overrides", "{A.ns: eth0, off: 10.0.0.1}", {"a.ns": "eth0", "off": "10.0.0.1"}),
        ("forward.warm_connections", "off", "off"),
        ("forward.warm_connections", "0", "off"),
        ("forward.warm_connections", "16", "16"),
        ("forward.warm_connections", '"16"', "16"),
        ("forward.idle_timeout", "0", 0),
    ],
)
def test_a_value_is_taken(dotted: str, text: str, value: object) -> None:
    assert value_of(dotted, text) == value


# Values that are refused


@pytest.mark.parametrize(
    ("dotted", "text", "wrong"),
    [
        ("api.url", "http://api.ngrok.com", "would send the API key in clear text"),
        ("api.url", "http://127.0.0.1.evil.com", "would send the API key in clear text"),
        ("api.url", "ftp://127.0.0.1", "is not an https:// URL"),
        ("api.url", "https://", "names no usable host"),
        ("api.url", "https://a:99999", "not a URL with a usable host and port"),
        ("api.url", "https://[::1", "not a URL with a usable host and port"),
        ("api.url", "https://me:pw@api.ngrok.com", "it holds a user name or password"),
        ("api.url", "https://api.ngrok.com?x=1", "it has a query or fragment"),
        ("api.url", "", "it has no value"),
        ("api.key", "12345", "it is not text: write it in quotes"),
        ("api.key", "'two words'", "it contains white space"),
        ("api.key", '"schl\u00fcssel"', "characters that no key has"),
        ("api.key", "[a]", "it is not text"),
        ("ingressEndpoint", "'::1'", "without brackets: write [::1]"),
        ("ingressEndpoint", "'[::1'", "no IPv6 address between its brackets"),
        ("ingressEndpoint", "a.b:443:1", "more than one colon"),
        ("ingressEndpoint", "https://a.b", "is a URL: write only its host and port"),
        ("ingressEndpoint", "a.b:0", "no usable port"),
        ("ingressEndpoint", "'a.b:'", "no usable port"),
        ("ingressEndpoint", "':443'", "names no usable host"),
        ("ingressEndpoint", "10.0.0.300", "names no usable host"),
        ("ingressEndpoint", "a b", "names no usable host"),
        ("server.log_level", "INFO", "'INFO' is none of them: write info"),
        ("server.log_level", "warn", "write warning"),
        ("server.log_level", "true", "true is not text: write it in quotes"),
        ("server.log_file", "ngrokd.log", "is not absolute"),
        ("server.log_file", "~/ngrokd.log", "which only a shell knows"),
        ("server.socket_path", "/" + "s" * 103, "has 104 bytes"),
        ("server.socket_path", '""', "is not absolute"),
        ("server.pid_file", "/run/", "is a folder"),
        ("server.pid_file", '"/run/a\\nb"', "has control characters"),
        ("server.health_port", '"8081"', "'8081' is text: write it without quotes"),
        ("server.health_port", "true", "true is not a number"),
        ("server.health_port", "65536", "65536 is too large"),
        ("server.health_port", "80.5", "80.5 is not a whole number"),
        ("server.health_port", "0x50", "'0x50' is not a number"),
        ("server.health_address", "localhost", "is not an IPv4 address"),
        ("server.health_address", "224.0.0.1", "cannot be listened on"),
        ("bound_endpoints.poll_interval", "-1", "-1 is too small"),
        ("bound_endpoints.poll_interval", "0.5", "0.5 is too small"),
        ("bound_endpoints.poll_interval", "9" * 400, "inf is too large"),
        ("bound_endpoints.poll_interval", ".nan", "'.nan' is not a number"),
        ("bound_endpoints.poll_interval", "30s", "'30s' is not a number"),
        ("bound_endpoints.poll_interval", "", "it has no value"),
        ("bound_endpoints.poll_interval", "[1]", "a list is not a number"),
        ("bound_endpoints.poll_interval", "{a: 1}", "a section is not a number"),
        ("bound_endpoints.selectors", "'true'", "is text: write ['true']"),
        ("bound_endpoints.selectors", "[true]", "item 1, true, is not text: write it in quotes"),
        ("bound_endpoints.selectors", "['a', '']", "item 2 is not one line of text"),
        ("bound_endpoints.selectors", "[]", "the list is empty"),
        ("bound_endpoints.selectors", "", "it has no value"),
        ("net.interface_name", "a" * 16, "is not a name of an interface"),
        ("net.interface_name", "eth0/1", "is not a name of an interface"),
        ("net.interface_name", "a b", "is not a name of an interface"),
        ("net.interface_name", "lo", "has a meaning of its own"),
        ("net.subnet", "10.99", "10.99 is not text"),
        ("net.subnet", "10/99", "is not an IPv4 network"),
        ("net.subnet", "10.107.0.0", "has no prefix length"),
        ("net.subnet", "10.107.0.5/16", "the network meant is 10.107.0.0/16"),
        ("net.subnet", "10.0.0.0/7", "has a prefix of 7 bits"),
        ("net.subnet", "10.0.0.0/31", "has a prefix of 31 bits"),
        ("net.subnet", "0.0.0.0/8", "this network"),
        ("net.subnet", "169.0.0.0/8", "link-local addresses (169.254.0.0/16) in it"),
        ("net.subnet", "224.0.0.0/16", "multicast"),
        ("net.subnet", "250.0.0.0/16", "reserved"),
        ("net.subnet", "fd00::/64", "is not an IPv4 network"),
        ("net.subnet", "10.300.0.0/16", "is not an IPv4 network"),
        ("net.listen_interface", "10.0.0.300", "is not an IPv4 address"),
        ("net.listen_interface", "'::1'", "IPv6 and ports are not possible here"),
        ("net.listen_interface", "10.0.0.1:80", "IPv6 and ports are not possible here"),
        ("net.listen_interface", "a/b", "neither an address nor a name of an interface"),
        ("net.start_port", "0", "0 is too small"),
        ("net.overrides", "eth0", "it is not a section"),
        ("net.overrides", "{a b: eth0}", "'a b' is not a hostname"),
        ("net.overrides", "{10.0.0.1: eth0}", "'10.0.0.1' is not a hostname"),
        ("net.overrides", "{a.ns: {b: c}}", "a section is not text"),
        ("net.overrides", "{a.ns: eth0, A.ns: eth1}", "a.ns is given already"),
        ("forward.warm_connections", "false", "false is not"),
        ("forward.warm_connections", "-1", "-1 is too small"),
        ("forward.max_connections", "1.0", "1.0 is not a whole number"),
    ],
)
def test_a_value_is_refused_with_its_line_and_what_is_allowed(
    dotted: str, text: str, wrong: str
) -> None:
    fault = the_fault(setting(dotted, text))
    line = 2 if "." in dotted else 1
    key = next(key for key in KEYS if key.dotted == dotted)
    assert fault.startswith(f"config.yml:{line}: {dotted}")
    assert wrong in fault
    assert fault.endswith(f", allowed: {'once' if 'already' in wrong else key.allowed}")


def test_the_documented_form_of_a_fault() -> None:
    assert the_fault("# a\n" * 5 + "bound_endpoints:\n  poll_interval: -1\n") == (
        "config.yml:7: bound_endpoints.poll_interval: -1 is too small, "
        "allowed: a number of seconds from 1 to 86400"
    )


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    found = faults(
        "api:\n  url: x\n  kye: 1\nserver: 4\nnet:\n  start_port: 0\n  subnet: 1\nfoo: 1\n",
        environ={"NGROKD_SOCKET": "x"},
    )
    assert [fault.split(": ")[:2] for fault in found] == [
        ["config.yml:2", "api.url"],
        ["config.yml:3", "api.kye"],
        ["config.yml:4", "server"],
        ["config.yml:6", "net.start_port"],
        ["config.yml:7", "net.subnet"],
        ["config.yml:8", "foo"],
        ["environment", "NGROKD_SOCKET"],
    ]


def test_overrides_are_told_at_their_own_lines() -> None:
    found = faults("net:\n  overrides:\n    a.ns: eth0\n    b.ns: 1\n    '': eth0\n")
    assert [fault.split(": ")[:2] for fault in found] == [
        ["config.yml:4", "net.overrides.b.ns"],
        ["config.yml:5", "net.overrides.''"],
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("api:\n  kye: a", "key"),
        ("ingress_endpoint: a", "ingressEndpoint"),
        ("servre:\n  log_level: info", "server"),
        ("poll_interval: 3", "bound_endpoints.poll_interval"),
        ("api:\n  subnets: 3", "net.subnet"),
        ("health:\n  port: 3", "server.health_port"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(text: str, meant: str) -> None:
    assert f"(did you mean {meant}?)" in the_fault(text)


def test_a_name_given_twice_is_refused_with_both_lines() -> None:
    text = "api:\n  key: a\n  key: b\nnet:\napi:\n  key: c\n"
    first, second = faults(text)
    assert first == "config.yml:3: api.key: it is given on line 2 already, allowed: once"
    assert second == "config.yml:5: api: it is given on line 1 already, allowed: once"


@pytest.mark.parametrize("other", ["server.client_key", "server.log_file", "net.hosts_file"])
def test_two_things_in_one_file_are_refused(other: str) -> None:
    text = setting(other, "/etc/ngrokd/../ngrokd/tls.crt")
    assert f"{other} and" in the_fault(text) or f"and {other} are" in the_fault(text)
    assert "config.yml:2: " in the_fault(text)


# Form


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("api:\n\tkey: a\n", "config.yml:2: YAML: a tab in the indentation, allowed: spaces"),
        ("api: [\n", "config.yml:1: YAML: "),
        ("api:\n  key: a: b\n", "config.yml:2: YAML: mapping values are not allowed"),
        ("api: {}\n---\nnet: {}\n", "config.yml:2: YAML: but found another document"),
        ("api: {}\nnet: *x\n", "config.yml:2: YAML: an alias"),
        ("api: !!map {}\n", "config.yml:1: YAML: a tag"),
        ("api: !python/object:os.system {}\n", "config.yml:1: YAML: a tag"),
        ("a\n\x00b", "config.yml:2: YAML: the character U+0000"),
        ("a: \ud800", "config.yml:1: YAML: the character U+D800"),
        ("? [a]\n: b\n", "config.yml:1: YAML: a list or section as a name"),
        ("- api\n", "config.yml:1: there are no `name: value` lines"),
        ("api\n", "config.yml:1: there are no `name: value` lines"),
        ("[" * 1000, "config.yml:1: YAML: too many levels"),
        ("a: " * 3 + "\n" + "- " * 500, "config.yml:1: YAML: mapping values"),
    ],
)
def test_a_fault_of_form_has_its_line(text: str, fault: str) -> None:
    assert the_fault(text).startswith(fault)


def test_a_bomb_of_aliases_is_refused() -> None:
    text = "a0: &a0 [x, x]\n"
    text += "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert the_fault(text).startswith("config.yml:2: YAML: an alias")


def test_a_fault_of_form_hides_no_fault_of_the_environment() -> None:
    assert len(faults("[", environ={"NGROK_API_KEY": "a b"})) == 2


# Environment and overlay


def test_precedence_is_built_in_then_file_then_environment_then_overlay() -> None:
    text = "api:\n  key: file\n"
    environ = {"NGROK_API_KEY": "environment"}
    overlay = {"api": {"key": "overlay"}}
    assert parse("").api.key == ""
    assert parse(text).api.key == "file"
    assert parse(text, environ).api.key == "environment"
    assert parse(text, environ, overlay).api.key == "overlay"


def test_each_variable_sets_its_key() -> None:
    config = parse("", {"NGROKD_SOCKET": "/run/a.sock", "NGROKD_HOSTS_PATH": "/srv/hosts"})
    assert config == Config(
        server=ServerSettings(socket_path="/run/a.sock"), net=NetSettings(hosts_file="/srv/hosts")
    )


@pytest.mark.parametrize("value", ["/run/b.sock", "unix:///run/b.sock"])
def test_the_socket_may_be_named_as_for_other_clients(value: str) -> None:
    assert parse("", {"NGROKD_HOST": value}).server.socket_path == "/run/b.sock"
    both = {"NGROKD_HOST": value, "NGROKD_SOCKET": "/run/a.sock"}
    assert parse("", both).server.socket_path == "/run/a.sock"


def test_an_empty_variable_is_not_set() -> None:
    environ = {"NGROK_API_KEY": "", "NGROK_API_KEY_FILE": "", "NGROKD_SOCKET": ""}
    assert parse("", environ) == Config()


def test_a_fault_of_the_environment_names_the_variable() -> None:
    assert the_fault("", environ={"NGROKD_HOST": "tcp://x:1"}).startswith(
        "environment: NGROKD_HOST: 'tcp://x:1' is not absolute, allowed: an absolute path"
    )
    assert the_fault("", environ={"NGROK_API_KEY": "a b"}).startswith(
        "environment: NGROK_API_KEY: it contains white space, allowed: "
    )


def test_a_key_and_a_key_file_together_are_refused() -> None:
    environ = {"NGROK_API_KEY": "a", "NGROK_API_KEY_FILE": "/b"}
    assert the_fault("", environ=environ) == (
        "environment: NGROK_API_KEY: NGROK_API_KEY_FILE is set as well, allowed: one of the two"
    )


def test_the_overlay_takes_python_values_and_is_checked() -> None:
    overlay: Mapping[str, object] = {
        "ingressEndpoint": "localhost:4443",
        "server": {"ca_file": Path("/tmp/ca.crt"), "health_port": 0},
        "net": {"overrides": {"a.ns": "eth0"}},
        "bound_endpoints": {"selectors": ("true", "false")},
    }
    config = parse("", None, overlay)
    assert config.server.ca_file == "/tmp/ca.crt"
    assert config.ingress_endpoint == "localhost:4443"
    assert config.net.overrides == {"a.ns": "eth0"}
    assert config.bound_endpoints.selectors == ("true", "false")
    assert the_fault("", overlay={"net": {"start_port": True}}).startswith(
        "overlay: net.start_port: true is not a number"
    )


# Secrets


SECRET = "2abcDEFghiJKLmnoPQRstu_5678"


@pytest.mark.parametrize(
    "text",
    [
        f"api:\n  key: '{SECRET} '\n",
        f"api:\n  key: [{SECRET}]\n",
        f"api:\n  key: {SECRET}: x\n",
        f"api:\n  key: '{SECRET}\n",
        f"api: {SECRET}\n",
        f"api:\n  {SECRET + SECRET}:\n",
        f"api:\n  key: {SECRET}\n  kye: x\n  url: {SECRET}\n",
        f"api:\n  url: https://{SECRET}@api.ngrok.com\n",
        f"api:\n  url: me:{SECRET}@api.ngrok.com\n",
        f"api:\n  url: https://api.ngrok.com/?key={SECRET}\n",
        f"{SECRET}\n",
    ],
)
def test_no_fault_shows_an_api_key(text: str) -> None:
    found = faults(text)
    assert found
    assert SECRET not in str(found)


def test_no_fault_of_the_environment_shows_an_api_key() -> None:
    assert SECRET not in str(faults("", environ={"NGROK_API_KEY": SECRET + " "}))


def test_the_key_is_not_in_the_text_of_the_configuration() -> None:
    assert SECRET not in repr(Config(api=ApiSettings(key=SECRET)))


# Hostile text


WORDS = [key.name for key in KEYS] + [*SECTIONS, "1", "true", "off", "10.0.0.0/8", "<<"]
WORDS += ["- ", ": ", ":\n  ", "\n", "\t", "{", "}", "[", "]", "? ", "'", '"', "|\n", "#", "---\n"]
WORDS += ["&a ", "*a ", "!x "]


@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=40).map("".join)))
def test_any_text_is_a_configuration_or_a_configuration_error(text: str) -> None:
    try:
        assert isinstance(parse(text), Config)
    except ConfigError as exc:
        assert exc.faults
        for fault in exc.faults:
            assert re.match(r"config\.yml:\d+: .+", fault)
            assert "\n" not in fault


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(WORDS)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


@given(st.sampled_from(KEYS), VALUES)
def test_any_value_of_a_key_is_taken_or_refused(key: Any, value: object) -> None:
    overlay = {key.section: {key.name: value}} if key.section else {key.name: value}
    try:
        assert isinstance(parse("", None, overlay), Config)
    except ConfigError as exc:
        assert all(fault.startswith("overlay: ") and "\n" not in fault for fault in exc.faults)


# Files


def test_load_reads_the_file_and_names_it_in_faults(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("net:\n  start_port: 9000\n")
    assert configfile.load(path).net.start_port == 9000
    path.write_text("net:\n  start_port: x\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:2: net.start_port: ")):
        configfile.load(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(b"\xef\xbb\xbfnet:\r\n  start_port: 9000\r\n")
    assert configfile.load(path).net.start_port == 9000


def test_a_file_that_is_not_utf_8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(b"# a\n# caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        configfile.load(path)
    assert caught.value.faults == (f"{path}:2: the byte 0xe9 is not UTF-8, allowed: UTF-8 text",)


def test_a_missing_file_a_folder_and_a_pipe_are_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, wrong in [
        ("missing", "cannot be read (No such file or directory)"),
        ("pipe", "is not a file"),
        (".", "cannot be read (Is a directory)"),
        ("missing/missing", "cannot be read (No such file or directory)"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(wrong)):
            configfile.load(tmp_path / name, {"NGROK_API_KEY": "a"})


def test_the_null_device_is_an_empty_file() -> None:
    assert configfile.load(Path("/dev/null")) == Config()


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    with open(path, "wb") as file:
        file.truncate(10**12)
    with pytest.raises(ConfigError, match="too large"):
        configfile.load(path)


def test_the_largest_file_of_nested_lists_is_refused_quickly(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("[" * configfile.MAX_FILE_BYTES)
    with pytest.raises(ConfigError, match="too many levels"):
        configfile.load(path)


def test_the_key_is_read_from_the_file_that_the_environment_names(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    environ = {"NGROK_API_KEY_FILE": str(tmp_path / "key")}
    assert configfile.load(Path("/dev/null"), environ).api.key == "from-file"


@pytest.mark.parametrize("content", [None, "", "\n", f"{SECRET} {SECRET}", "\udcff"])
def test_an_unusable_key_file_is_told_without_its_content(
    tmp_path: Path, content: Optional[str]
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        configfile.load(Path("/dev/null"), {"NGROK_API_KEY_FILE": str(tmp_path / "key")})
    assert caught.value.faults[0].startswith("environment: NGROK_API_KEY_FILE: ")
    assert SECRET not in str(caught.value)


def test_an_unreadable_file_hides_no_fault_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.load(tmp_path / "missing", {"NGROK_API_KEY": "a b"})
    assert len(caught.value.faults) == 2


# The default file


def test_the_default_file_is_ours_alone_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "made" / "config.yml"
    before = os.umask(0)
    try:
        configfile.write_default(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert configfile.load(path) == Config()


def test_the_default_file_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("# mine\n")
    configfile.write_default(path)
    assert path.read_text() == "# mine\n"


def test_a_folder_that_cannot_be_made_is_told_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for parent in ("file", "file/deeper"):
        with pytest.raises(ConfigError) as caught:
            configfile.write_default(tmp_path / parent / "config.yml")
        assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_default_file_that_cannot_be_written_whole_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yml"
    real_open = os.open

    def open_full(name: Any, flags: int, mode: int = 0o777) -> int:
        os.close(real_open(name, flags, mode))
        return real_open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", open_full)
    with pytest.raises(ConfigError, match="No space left on device"):
        configfile.write_default(path)
    assert not path.exists()


# Changes and advice


def test_changes_are_the_keys_that_differ() -> None:
    old = Config()
    assert configfile.changes(old, old) == ()
    assert configfile.changes(old, parse(configfile.DEFAULT_TEXT)) == ()
    new = parse("api:\n  key: a\ningressEndpoint: a.b\nnet:\n  overrides: {a.ns: eth0}\n")
    assert configfile.changes(old, new) == ("api.key", "ingressEndpoint", "net.overrides")


def test_the_defaults_need_no_advice(tmp_path: Path) -> None:
    assert configfile.advice(tmp_path / "missing", Config()) == ()


def test_what_opens_the_machine_to_others_is_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "api: {key: a}\nserver: {health_address: 0.0.0.0}\n"
        "net: {subnet: 8.8.0.0/16, listen_interface: 0.0.0.0, overrides: {a.ns: 0.0.0.0}}\n"
    )
    path.chmod(0o644)
    lines = configfile.advice(path, configfile.load(path))
    assert [line.partition(": ")[0] for line in lines] == [
        "net.subnet",
        "net.listen_interface",
        "net.overrides.a.ns",
        "server.health_address",
        "the configuration file can be read by every user; if the API key is in it",
    ]
    assert lines[-1].endswith(f": chmod 600 {path}")


def advised(text: str) -> tuple[str, ...]:
    return configfile.advice(None, parse(text))


@pytest.mark.parametrize(
    ("subnet", "told"),
    [
        ("8.8.8.0/24", True),
        ("100.64.0.0/10", True),
        ("172.0.0.0/8", True),  # 172.16.0.0/12 is but a part of it
        ("172.16.0.0/12", False),
        ("192.168.7.0/24", False),
        ("127.107.0.0/16", False),
    ],
)
def test_a_subnet_that_is_not_private_is_pointed_out(subnet: str, told: bool) -> None:
    lines = advised(f"net: {{subnet: {subnet}}}")
    assert [line.partition(": ")[0] for line in lines] == (["net.subnet"] if told else [])
    assert all("10.0.0.0/8" in line for line in lines)


def test_what_this_machine_does_not_have_is_pointed_out_with_the_mend(tmp_path: Path) -> None:
    text = f"server: {{ca_file: {tmp_path}/a/ca.pem, log_file: '{tmp_path}/b c/x.log',"
    assert advised(text + " socket_group: no-such-group}") == (
        f"server.ca_file: {tmp_path}/a/ca.pem does not exist, and without it no endpoint can be"
        " reached: put a PEM file there, or leave the key empty",
        f"server.log_file: the folder {tmp_path}/b c does not exist, and without it ngrokd does not"
        f" start: mkdir -p '{tmp_path}/b c', or name another file",
        "server.socket_group: this machine has no group no-such-group, and without it ngrokd does"
        " not start: groupadd --system no-such-group, or name another one",
    )


def test_what_this_machine_has_needs_no_advice(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    for group in (grp.getgrgid(os.getgid()).gr_name, "'12345'"):  # a number need have no name
        there = f"ca_file: {tmp_path}/ca.pem, log_file: {tmp_path}/x.log, socket_group: {group}"
        assert advised(f"server: {{{there}}}") == ()
    assert advised("server: {log_file: syslog}") == ()


def test_a_file_below_a_file_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    (line,) = advised(f"server: {{ca_file: {tmp_path}/f/ca.pem}}")
    assert "does not exist" in line


def test_what_may_not_be_looked_at_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    text = f"api: {{key: a}}\nserver: {{ca_file: {tmp_path}/ca.pem, log_file: {tmp_path}/b/x.log}}"
    assert configfile.advice(tmp_path / "config.yml", parse(text)) == ()


# The documentation


def test_the_documentation_says_every_key_its_default_and_what_is_allowed() -> None:
    assert [row[:3] for row in documented()] == [
        (key.dotted, _as_documented(value_in(Config(), key)), key.allowed) for key in KEYS
    ]


def test_the_documentation_says_what_needs_a_restart() -> None:
    for name, _, _, effect in documented():
        assert effect.endswith("(restart)") == needs_restart(name), name


def documented() -> list[tuple[str, str, str, str]]:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([\w.]+)` \| (.+?) \| (.+?) \| (.+) \|$", text, re.MULTILINE)


def _as_documented(value: object) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`" if value not in ("", {}) else "nothing"


def test_a_configuration_that_is_written_is_read_as_it_was() -> None:
    """Also one whose every value is not the default."""
    text = (
        "api: {key: 2abcSECRET}\ningressEndpoint: i.example:1\n"
        "bound_endpoints: {selectors: ['a', \"b == 'ü'\"]}\n"
        "net: {overrides: {a.ns: 0.0.0.0}}\nforward: {warm_connections: 3}\n"
    )
    config = configfile.parse(text, "test")
    assert configfile.parse(written.text_of(config, "by hand"), "test") == config
