"""The command line of ngrokd, which this room may not import. Made by `make manuals`. Pure."""

# ruff: noqa: E501

from __future__ import annotations

from ngrokd.control.completion.grammar import Command, Option, Place, Program, Value

NGROKD = Program(
    name="ngrokd",
    before=Command(
        name="",
        help="",
        description="Gives ngrok's Kubernetes-bound endpoints local addresses and names.\nWithout a command it runs the daemon, in the background once it is up.",
        options=(
            Option(flags=("-h", "--help"), help="show this help message and exit"),
            Option(flags=("--version",), help="show the version of ngrokd and end"),
            Option(
                flags=("--config",),
                help="the configuration file; default: /etc/ngrokd/config.yml",
                values=(Value(name="PATH"),),
            ),
            Option(
                flags=("--foreground",),
                help="stay in the terminal and log to standard error; implied under a service manager",
            ),
            Option(flags=("-v", "--verbose"), help="log at level debug"),
            Option(flags=("--sandbox",), help="run against a stand-in cloud, without an account"),
            Option(
                flags=("--dir",),
                help="with --sandbox: keep its state in DIR",
                values=(Value(name="DIR"),),
            ),
            Option(
                flags=("--dry-run",),
                help="print what a start would do on this machine, and do nothing",
            ),
        ),
    ),
    commands=(
        Command(
            name="install",
            help="put the service into this machine's init system",
            description="Puts the service into this machine's init system, and lets it start at boot; it is not started now. Files that you changed stay as they are.",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--config",),
                    help="default: /etc/ngrokd/config.yml, or what the installed service uses",
                    values=(Value(name="PATH"),),
                ),
                Option(
                    flags=("--init",),
                    help="the init system, instead of the one that runs: systemd, openrc, sysv, launchd",
                    values=(Value(name="NAME", choices=("systemd", "openrc", "sysv", "launchd")),),
                ),
                Option(flags=("--dry-run",), help="print every step, and do nothing"),
            ),
        ),
        Command(
            name="uninstall",
            help="stop the service and take it out of the init system",
            description="Stops the service and takes it out of the init system. The configuration and the state folder stay, unless --purge is given.",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--config",),
                    help="default: /etc/ngrokd/config.yml, or what the installed service uses",
                    values=(Value(name="PATH"),),
                ),
                Option(
                    flags=("--init",),
                    help="the init system, instead of the one that runs: systemd, openrc, sysv, launchd",
                    values=(Value(name="NAME", choices=("systemd", "openrc", "sysv", "launchd")),),
                ),
                Option(flags=("--dry-run",), help="print every step, and do nothing"),
                Option(
                    flags=("--purge",),
                    help="also delete the operator at ngrok, then state, configuration and logs",
                ),
                Option(
                    flags=("--force",),
                    help="with --purge: even if ngrok cannot be told, and keeps the operator",
                ),
            ),
        ),
        Command(
            name="start",
            help="start the daemon, and wait until it is up",
            description="Start the daemon, and wait until it is up: through the init system where `ngrokd install` put it into one, else directly by the pid file.",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--config",),
                    help="default: /etc/ngrokd/config.yml, or what the installed service uses",
                    values=(Value(name="PATH"),),
                ),
            ),
        ),
        Command(
            name="stop",
            help="stop the daemon, and wait until it has ended",
            description="Stop the daemon, and wait until it has ended: through the init system where `ngrokd install` put it into one, else directly by the pid file.",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--config",),
                    help="default: /etc/ngrokd/config.yml, or what the installed service uses",
                    values=(Value(name="PATH"),),
                ),
            ),
        ),
        Command(
            name="restart",
            help="check the configuration, stop the daemon, start it",
            description="Check the configuration, stop the daemon, start it: through the init system where `ngrokd install` put it into one, else directly by the pid file.",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--config",),
                    help="default: /etc/ngrokd/config.yml, or what the installed service uses",
                    values=(Value(name="PATH"),),
                ),
            ),
        ),
        Command(
            name="reload",
            help="check the configuration, and let the daemon read it again",
            description="Check the configuration, and let the daemon read it again: through the init system where `ngrokd install` put it into one, else directly by the pid file.",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--config",),
                    help="default: /etc/ngrokd/config.yml, or what the installed service uses",
                    values=(Value(name="PATH"),),
                ),
            ),
        ),
        Command(
            name="cleanup",
            help="remove what a dead daemon left: names, addresses, socket, pid file",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--config",),
                    help="default: /etc/ngrokd/config.yml",
                    values=(Value(name="PATH"),),
                ),
                Option(flags=("--dry-run",), help="print what would be removed, and do nothing"),
            ),
        ),
        Command(
            name="check-config",
            help="check a configuration file",
            description="Checks a configuration file: every mistake with its line, and what is allowed there.",
            options=(Option(flags=("-h", "--help"), help="show this help message and exit"),),
            places=(
                Place(
                    value=Value(name="PATH"),
                    help="the configuration file; default: /etc/ngrokd/config.yml",
                    required=False,
                ),
            ),
        ),
        Command(
            name="sandbox",
            help="run only the stand-in cloud",
            description="Runs only the stand-in cloud, and prints how to point a daemon at it.",
            options=(
                Option(flags=("-h", "--help"), help="show this help message and exit"),
                Option(
                    flags=("--endpoint",),
                    help="list URL (http, https, tcp or tls) and connect it to HOST:PORT; may be repeated",
                    values=(Value(name="URL=HOST:PORT"),),
                    repeatable=True,
                ),
                Option(
                    flags=("--dir",),
                    help="keep the certificates, operators and files here (default: a temporary folder)",
                    values=(Value(name="DIR"),),
                ),
                Option(
                    flags=("--config-out",),
                    help="write the configuration for a daemon to FILE too, once everything listens",
                    values=(Value(name="FILE"),),
                ),
                Option(
                    flags=("--port",),
                    help="the port of the API (default: a free one)",
                    values=(Value(name="N"),),
                ),
                Option(
                    flags=("--ingress-port",),
                    help="the port of the ingress (default: a free one)",
                    values=(Value(name="N"),),
                ),
                Option(
                    flags=("--no-samples",),
                    help="without hello.sandbox, files.sandbox and echo.sandbox",
                ),
            ),
        ),
    ),
)
