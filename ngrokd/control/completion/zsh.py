"""The completion script for zsh. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ngrokd.control.completion.grammar import Command, Kind, Option, Place, Program, Value

_FUNCTION = r"""
_ngrokd_line_@NAME@() {
  local curcontext=$curcontext state
  local -a line commands
  typeset -A opt_args
  local ngrokd_program=${(Q)${words[1]/#\~\//$HOME/}} ngrokd_socket=
  commands=(
@COMMANDS@
  )
  _arguments -C -S -A '-*' \
@BEFORE@
    '1:command:->command' \
    '*:: :->words' && return
  case $state in
    command) _describe -t commands command commands && return ;;
    words)
      ngrokd_socket=${opt_args[--socket]-}
      case $line[1] in
@AFTER@
      esac ;;
  esac
  return 1
}
"""

_END = r"""
# The names of the endpoints of the running daemon; no daemon, no names.
_ngrokd_hostnames() {
  local -a names
  local socket=${(Q)${opt_args[--socket]:-$ngrokd_socket}}
  names=(${(f)"$($ngrokd_program ${socket:+--socket} ${socket:+$socket} \
    completion zsh --hostnames 2>/dev/null)"})
  compadd -a names
}

_ngrokd() {
  case $service in
@SERVICES@
  esac
}

# Found in $fpath, this file is the body of the function; sourced, it makes the function known.
if [[ $funcstack[1] == _ngrokd ]]; then
  _ngrokd "$@"
else
  compdef _ngrokd @NAMES@
fi
"""


def script(programs: Sequence[Program]) -> str:
    """What `source` takes after `compinit`, and what a folder of $fpath takes as `_ngrokd`."""
    names = " ".join(program.name for program in programs)
    services = "\n".join(f"    {p.name}) _ngrokd_line_{p.name} ;;" for p in programs)
    parts = [f"#compdef {names}\n", *(_function(program) for program in programs)]
    return "".join(parts) + _END.replace("@SERVICES@", services).replace("@NAMES@", names)


def quoted(text: str) -> str:
    """As one word of zsh."""
    return "'" + text.replace("'", r"'\''") + "'"


def escaped(text: str) -> str:
    """As a part of a specification, where a colon and a bracket would end it."""
    return "".join("\\" + char if char in r"\:[]" else char for char in text)


def _function(program: Program) -> str:
    listed = "\n".join(
        "    " + quoted(f"{command.name}:{escaped(command.help)}") for command in program.commands
    )
    before = "\n".join(f"    {quoted(word)} \\" for word in _options(program.before))
    after = "\n".join(line for command in program.commands for line in _case(command))
    filled = _FUNCTION.replace("@NAME@", program.name).replace("@COMMANDS@", listed)
    return filled.replace("@BEFORE@", before).replace("@AFTER@", after)


def _case(command: Command) -> Iterator[str]:
    words = [*_options(command), *(_place(n, p) for n, p in enumerate(command.places, start=1))]
    *most, last = (f"            {quoted(word)}" for word in words)
    yield f"        {command.name})"
    yield "          _arguments -S \\"
    yield from (f"{line} \\" for line in most)
    yield f"{last} && return ;;"


def _options(command: Command) -> Iterator[str]:
    for option in command.options:
        for flag in option.flags:
            yield _option(option, flag)


def _option(option: Option, flag: str) -> str:
    """A flag once, in either of its forms; after `--help` and `--version` nothing counts."""
    if option.repeatable:
        before = "*"
    elif {"--help", "--version"} & set(option.flags):
        before = "(- *)"
    else:
        before = f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    joined = "=" if option.values and flag.startswith("--") else ""
    values = "".join(_value(value) for value in option.values)
    return f"{before}{flag}{joined}[{escaped(option.help)}]{values}"


def _place(number: int, place: Place) -> str:
    return f"{number}{'' if place.required else ':'}{_value(place.value)}"


def _value(value: Value) -> str:
    action = {
        Kind.NOTHING: "",
        Kind.WORDS: f"({' '.join(value.choices)})",
        Kind.FILE: "_files",
        Kind.FOLDER: "_files -/",
        Kind.HOSTNAME: "_ngrokd_hostnames",
    }[value.kind]
    return f":{escaped(value.name)}:{action}"
