"""The completion script for bash 3.2 and later, with bash-completion or without. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ngrokd.control.completion.grammar import Command, Kind, Program, Value

# Candidates are compared as text and never expanded: a hostname comes from the network.
_ENGINE = r"""
# Sets `takes` to what the program in $1 expects after the command in $2 ("": before it), where $3
# stands: its place, an option's value, or `options`.
_ngrokd_takes() {
    takes=
    case "$1,$2,$3" in
@TAKES@
    esac
}

# Adds those of the words $* that begin with what is typed.
_ngrokd_words() {
    local word
    for word in "$@"; do
        if [[ $word && $word == "$cur"* ]]; then COMPREPLY+=("$prefix$word"); fi
    done
}

# Adds paths: $1 is -f for files, -d for folders.
_ngrokd_paths() {
    local path
    if [[ ! $prefix ]] && declare -F _filedir >/dev/null; then
        if [[ $1 == -d ]]; then _filedir -d; else _filedir; fi
        return
    fi
    compopt -o filenames 2>/dev/null
    while IFS= read -r path; do
        COMPREPLY+=("$prefix$path")
    done < <(compgen "$1" -- "$cur")
}

# Adds the names of the endpoints of the running daemon; no daemon, no names.
_ngrokd_hostnames() {
    local name program=${COMP_WORDS[0]/#\~\//$HOME/}
    while IFS= read -r name; do
        _ngrokd_words "$name"
    done < <("$program" ${socket:+--socket "$socket"} completion bash --hostnames 2>/dev/null)
}

# Reads the words before the cursor: sets `command`, `place`, `socket`, and `pending` if the last of
# them is an option that waits for its value.
_ngrokd_read() {
    local i word
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' ]]; then
            continue # --option=value is three words here
        elif [[ $pending ]]; then
            [[ $pending != --socket ]] || socket=$word
            pending=
        elif [[ $word == -?* && ! $ended ]]; then
            if [[ $word == -- ]]; then ended=1; fi
            _ngrokd_takes "$program" "$command" "$word"
            if [[ $takes ]]; then pending=$word; fi
        elif [[ ! $command ]]; then
            command=$word
        else
            place=$((place + 1))
        fi
    done
}

_ngrokd() {
    local program=${1##*/} cur=${COMP_WORDS[COMP_CWORD]-} prefix='' takes=''
    local command='' place=0 pending='' socket='' ended=''
    COMPREPLY=()
    _ngrokd_read
    if [[ $cur == '=' ]]; then
        cur=
    elif [[ ! $pending && ! $ended && $cur == --*=* ]]; then # COMP_WORDBREAKS has no "="
        pending=${cur%%=*} prefix=${cur%%=*}= cur=${cur#*=}
    fi
    if [[ $pending ]]; then
        _ngrokd_takes "$program" "$command" "$pending"
    elif [[ $cur == -* && ! $ended ]]; then
        _ngrokd_takes "$program" "$command" options
    else
        _ngrokd_takes "$program" "$command" "$place"
    fi
    # The words are plain ones, to be split.
    # shellcheck disable=SC2086
    case $takes in
    file) _ngrokd_paths -f ;;
    folder) _ngrokd_paths -d ;;
    hostname) _ngrokd_hostnames ;;
    words\ *) _ngrokd_words ${takes#words } ;;
    esac
}

complete -F _ngrokd @PROGRAMS@
"""


def script(programs: Sequence[Program]) -> str:
    """What `source` takes."""
    takes = "\n".join(line for program in programs for line in _takes(program))
    names = " ".join(program.name for program in programs)
    head = f"# bash completion for {names.replace(' ', ' and ')}\n"
    return head + _ENGINE.replace("@TAKES@", takes).replace("@PROGRAMS@", names)


def _takes(program: Program) -> Iterator[str]:
    for command in program.all:
        flags = [flag for option in command.options for flag in option.flags]
        yield _case(program, command, "options", "words " + " ".join(flags))
        for option in command.options:
            for value in option.values:
                for flag in option.flags:
                    yield _case(program, command, flag, _expected(value))
        for place, expected in enumerate(command.places):
            yield _case(program, command, str(place), _expected(expected.value))
    names = " ".join(command.name for command in program.commands)
    yield _case(program, program.before, "0", f"words {names}")


def _case(program: Program, command: Command, where: str, expected: str) -> str:
    return f"    {program.name},{command.name},{where}) takes='{expected}' ;;"


def _expected(value: Value) -> str:
    """Never empty: that would be a switch."""
    if value.kind is Kind.WORDS:
        return "words " + " ".join(value.choices)
    return value.kind.value or "anything"
