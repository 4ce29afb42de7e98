"""Which files of a state folder, and which logs, are ours to remove."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_LOG_FILE, Config
from ngrokd.service.steps import Remove, RemoveFolder, Say, Step

# Nobody else's files have these names.
_STATE = (
    "operator_id",
    "registration.json",
    "installation_id",
    "api_key",
    "ip_mappings.json",
    "network_ports.json",
    "endpoints.json",
)
# Somebody else's may; they go where the folder holds nothing but ours.
_COMMON = ("config.yml", "ca.crt")

# What a crash leaves beside a file, a damaged one, one not yet in use.
_BESIDE = r"\.{0}\.(?:ngrokd-[0-9]+-)?[0-9a-f]{{16}}(?:\.tmp)?|{0}(?:\.corrupt|\.next)?"

# `ngrokd.log.1`, `ngrokd.log.2.gz`, and with logrotate's dateext `ngrokd.log-20260131.gz`.
_ROTATED = r"{}(?:[.-][0-9]+)*(?:\.(?:gz|bz2|xz|zst))?"

Names = Callable[[str], Iterable[str]]  # of a folder, () if it is not there


def state(config: Config, config_path: str, names: Names) -> list[Step]:
    """The state folder and the configuration, as far as they are ours."""
    server = config.server
    folder = str(config.state_folder)
    certificate, key = _name(server.client_cert), _name(server.client_key)
    own = [*_STATE, certificate, key, f"{certificate.rpartition('.')[0] or certificate}.csr"]
    paths = _in_folder(folder, own, names)
    if _folder(server.client_key) != folder:
        paths += _in_folder(_folder(server.client_key), [key], names)
    common = _in_folder(folder, list(_COMMON), names)
    left = {f"{folder}/{name}" for name in names(folder)} - set(paths) - set(common)
    steps: list[Step] = []
    if not left:
        paths += common
    elif paths or common:
        steps.append(Say(f"{folder} stays with what is not ngrokd's: {', '.join(sorted(left))}"))
    if config_path == DEFAULT_CONFIG_PATH and config_path not in paths:
        paths += _in_folder(_folder(config_path), [_name(config_path)], names)
    elif config_path not in paths and _name(config_path) in names(_folder(config_path)):
        steps.append(Say(f"{config_path} stays: it is your own"))
    steps += [Remove(path) for path in dict.fromkeys(paths)]
    if not left:
        default = _folder(DEFAULT_CONFIG_PATH)  # made by us, whoever emptied it
        emptied = {_folder(path) for path in paths} & {folder} | {default}
        steps += [RemoveFolder(each) for each in sorted(emptied)]
    return steps


def logs(config: Config, names: Names) -> list[Step]:
    """The log file and the older ones that were rotated away."""
    path = config.server.log_file or DEFAULT_LOG_FILE
    if not path.startswith("/"):
        return []  # syslog
    pattern = re.compile(_ROTATED.format(re.escape(_name(path))))
    folder = _folder(path)
    return [Remove(f"{folder}/{name}") for name in sorted(names(folder)) if pattern.fullmatch(name)]


def _in_folder(folder: str, wanted: list[str], names: Names) -> list[str]:
    words = "|".join(re.escape(name) for name in wanted)
    pattern = re.compile(_BESIDE.format(f"(?:{words})"))
    return [f"{folder}/{name}" for name in sorted(names(folder)) if pattern.fullmatch(name)]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
