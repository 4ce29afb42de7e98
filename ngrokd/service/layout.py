"""Which of the files in `init/` belongs where, for each init system."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from ngrokd.service.systems import Facts, Init


class Role(enum.Enum):
    """What becomes of a file that was changed, or that is not ours."""

    SERVICE = "service"  # the init system's: one of another origin is in the way
    SETTINGS = "settings"  # a person's as much as ours: whatever is there stays
    EXTRA = "extra"  # manuals and completions: nice to have


@dataclass(frozen=True)
class Placed:
    """One file of ours on this machine."""

    source: str  # in init/
    path: str
    mode: int
    role: Role
    elsewhere: tuple[str, ...] = ()  # a package's own, which makes ours unnecessary
    links: tuple[str, ...] = ()  # beside it, to it: more names for the same


_UNIT_FOLDERS = ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")

SERVICES = {
    Init.SYSTEMD: Placed(
        "ngrokd.service",
        "/etc/systemd/system/ngrokd.service",
        0o644,
        Role.SERVICE,
        tuple(f"{folder}/ngrokd.service" for folder in _UNIT_FOLDERS),
    ),
    Init.OPENRC: Placed("ngrokd.openrc", "/etc/init.d/ngrokd", 0o755, Role.SERVICE),
    Init.SYSV: Placed("ngrokd.init", "/etc/init.d/ngrokd", 0o755, Role.SERVICE),
    Init.LAUNCHD: Placed(
        "com.ngrok.ngrokd.plist",
        "/Library/LaunchDaemons/com.ngrok.ngrokd.plist",
        0o644,
        Role.SERVICE,
    ),
}
DEFAULTS = Placed("ngrokd.default", "/etc/default/ngrokd", 0o644, Role.SETTINGS)
LOGROTATE = Placed("ngrokd.logrotate", "/etc/logrotate.d/ngrokd", 0o644, Role.SETTINGS)

# Of each shell: the folder below share/, and the names under which it looks for the completions of
# ngrokd and ngrokctl. One file of zsh names the programs that it is for.
_COMPLETIONS = {
    "bash": ("bash-completion/completions", "ngrokd", ("ngrokctl",)),
    "zsh": ("zsh/site-functions", "_ngrokd", ()),
    "fish": ("fish/vendor_completions.d", "ngrokd.fish", ("ngrokctl.fish",)),
}


def placed(init: Init, facts: Facts, sources: Iterable[str]) -> list[Placed]:
    """Everything that is installed for this init system, of what `sources` names."""
    wanted = [SERVICES[init]]
    if init is not Init.LAUNCHD:
        wanted.append(DEFAULTS)
        if "/etc/logrotate.d" in facts.folders:
            wanted.append(LOGROTATE)
    for name in sorted(sources):
        if name.startswith("man/") and "man" in facts.tools:
            wanted.append(manual(name))
        elif name.startswith("completions/") and shell_of(name) in facts.tools & set(_COMPLETIONS):
            wanted.append(completion(name))
    return wanted


def everything(sources: Iterable[str]) -> list[Placed]:
    """Whatever any `install` may have put somewhere, except for the init systems' own files."""
    names = sorted(sources)
    manuals = [manual(name) for name in names if name.startswith("man/")]
    shells = [
        completion(name)
        for name in names
        if name.startswith("completions/") and shell_of(name) in _COMPLETIONS
    ]
    return [DEFAULTS, LOGROTATE, *manuals, *shells]


def manual(name: str) -> Placed:
    """`man/ngrokd.8`."""
    page = name.rpartition("/")[2]
    where = f"man/man{page[-1]}/{page}"
    package = f"/usr/share/{where}"
    return Placed(
        name, f"/usr/local/share/{where}", 0o644, Role.EXTRA, (package, f"{package}.gz")
    )


def completion(name: str) -> Placed:
    """`completions/ngrokd.bash`."""
    folder, word, links = _COMPLETIONS[shell_of(name)]
    shared, own = f"/usr/share/{folder}", f"/usr/local/share/{folder}"
    return Placed(
        name,
        f"{own}/{word}",
        0o644,
        Role.EXTRA,
        (f"{shared}/{word}",),
        tuple(f"{own}/{link}" for link in links),
    )


def shell_of(name: str) -> str:
    """`bash`, `zsh` or `fish`."""
    return name.rpartition(".")[2]
