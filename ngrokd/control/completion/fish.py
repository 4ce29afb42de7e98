"""The completion script for fish. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ngrokd.control.completion.grammar import Kind, Option, Program, Value

_HEAD = r"""# fish completion for @NAMES@
# Loaded under either program's name, and again by hand, it says everything once.

# Succeeds if the command on the line is $argv[2] ("": none yet), and, if there is an $argv[3], that
# many words have been given after it. $argv[1] is the program.
function __ngrokd_at
    set -l words (commandline -opc)
    set -l valued
    switch $argv[1]
@VALUED@
    end
    set -l command ''
    set -l place 0
    set -l ended no
    set -l skip no
    for word in $words[2..-1]
        if test $skip = yes
            set skip no
        else if test $ended = no; and string match -q -- '-?*' $word
            if test "$word" = --
                set ended yes
            else if contains -- $word $valued
                set skip yes
            end
        else if test -z "$command"
            set command $word
        else
            set place (math $place + 1)
        end
    end
    test "$command" = "$argv[2]"; or return 1
    test (count $argv) -lt 3; or test $place -eq $argv[3]
end

# The names of the endpoints of the running daemon; no daemon, no names.
function __ngrokd_hostnames
    set -l words (commandline -opc)
    set -l socket
    for i in (seq 2 (count $words))
        if string match -q -- '--socket=*' $words[$i]
            set socket --socket (string replace -- --socket= '' $words[$i])
        else if test "$words[$i]" = --socket; and set -q words[(math $i + 1)]
            set socket --socket $words[(math $i + 1)]
        end
    end
    command $words[1] $socket completion fish --hostnames 2>/dev/null
end
"""


def script(programs: Sequence[Program]) -> str:
    """What `source` takes."""
    names = " and ".join(program.name for program in programs)
    valued = "\n".join(_valued(program) for program in programs)
    parts = [_HEAD.replace("@NAMES@", names).replace("@VALUED@", valued)]
    for program in programs:
        parts.append("\n".join(_lines(program)) + "\n")
    return "\n".join(parts)


def quoted(text: str) -> str:
    """As one word of fish."""
    return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"


def _lines(program: Program) -> Iterator[str]:
    yield f"complete -c {program.name} -e"
    yield f"complete -c {program.name} -f"
    for command in program.commands:
        yield _line(program, _at(program, ""), f"-a {command.name}", command.help)
    for command in program.all:
        for option in command.options:
            yield _line(program, _at(program, command.name), _option(option), option.help)
        for place, expected in enumerate(command.places):
            words = _offered(expected.value)
            if words:
                condition = _at(program, command.name, str(place))
                yield _line(program, condition, words, expected.help)


def _line(program: Program, condition: str, what: str, text: str) -> str:
    return f"complete -c {program.name} -n {quoted(condition)} {what} -d {quoted(text)}"


def _at(program: Program, command: str, place: str = "") -> str:
    return " ".join(["__ngrokd_at", program.name, quoted(command), place]).strip()


def _valued(program: Program) -> str:
    """The options that take a value, which is no command."""
    options = (option for command in program.all for option in command.options if option.values)
    flags = sorted({flag for option in options for flag in option.flags})
    return f"        case {program.name}\n            set valued {' '.join(flags)}"


def _option(option: Option) -> str:
    flags = [f"-{'l' if flag[1] == '-' else 's'} {flag.lstrip('-')}" for flag in option.flags]
    words = [_offered(value) or "-x" for value in option.values]
    return " ".join([*flags, *words])


def _offered(value: Value) -> str:
    """"" for what only the user knows. -r: a value must follow; -F: files, which -f turned off."""
    return {
        Kind.NOTHING: "",
        Kind.WORDS: f"-x -a {quoted(' '.join(value.choices))}",
        Kind.FILE: "-r -F",
        Kind.FOLDER: "-x -a '(__fish_complete_directories)'",
        Kind.HOSTNAME: "-x -a '(__ngrokd_hostnames)'",
    }[value.kind]
