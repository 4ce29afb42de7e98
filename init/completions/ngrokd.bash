# bash completion for ngrokd and ngrokctl

# Sets `takes` to what the program in $1 expects after the command in $2 ("": before it), where $3
# stands: its place, an option's value, or `options`.
_ngrokd_takes() {
    takes=
    case "$1,$2,$3" in
    ngrokd,,options) takes='words -h --help --version --config --foreground -v --verbose --sandbox --dir --dry-run' ;;
    ngrokd,,--config) takes='file' ;;
    ngrokd,,--dir) takes='folder' ;;
    ngrokd,install,options) takes='words -h --help --config --init --dry-run' ;;
    ngrokd,install,--config) takes='file' ;;
    ngrokd,install,--init) takes='words systemd openrc sysv launchd' ;;
    ngrokd,uninstall,options) takes='words -h --help --config --init --dry-run --purge --force' ;;
    ngrokd,uninstall,--config) takes='file' ;;
    ngrokd,uninstall,--init) takes='words systemd openrc sysv launchd' ;;
    ngrokd,start,options) takes='words -h --help --config' ;;
    ngrokd,start,--config) takes='file' ;;
    ngrokd,stop,options) takes='words -h --help --config' ;;
    ngrokd,stop,--config) takes='file' ;;
    ngrokd,restart,options) takes='words -h --help --config' ;;
    ngrokd,restart,--config) takes='file' ;;
    ngrokd,reload,options) takes='words -h --help --config' ;;
    ngrokd,reload,--config) takes='file' ;;
    ngrokd,cleanup,options) takes='words -h --help --config --dry-run' ;;
    ngrokd,cleanup,--config) takes='file' ;;
    ngrokd,check-config,options) takes='words -h --help' ;;
    ngrokd,check-config,0) takes='file' ;;
    ngrokd,sandbox,options) takes='words -h --help --endpoint --dir --config-out --port --ingress-port --no-samples' ;;
    ngrokd,sandbox,--endpoint) takes='anything' ;;
    ngrokd,sandbox,--dir) takes='folder' ;;
    ngrokd,sandbox,--config-out) takes='file' ;;
    ngrokd,sandbox,--port) takes='anything' ;;
    ngrokd,sandbox,--ingress-port) takes='anything' ;;
    ngrokd,,0) takes='words install uninstall start stop restart reload cleanup check-config sandbox' ;;
    ngrokctl,,options) takes='words -h --help --version --json --socket' ;;
    ngrokctl,,--socket) takes='file' ;;
    ngrokctl,status,options) takes='words -h --help --json --socket' ;;
    ngrokctl,status,--socket) takes='file' ;;
    ngrokctl,health,options) takes='words -h --help --json --socket' ;;
    ngrokctl,health,--socket) takes='file' ;;
    ngrokctl,events,options) takes='words -h --help --json --socket' ;;
    ngrokctl,events,--socket) takes='file' ;;
    ngrokctl,refresh,options) takes='words -h --help --json --socket' ;;
    ngrokctl,refresh,--socket) takes='file' ;;
    ngrokctl,reload,options) takes='words -h --help --json --socket' ;;
    ngrokctl,reload,--socket) takes='file' ;;
    ngrokctl,rotate-cert,options) takes='words -h --help --json --socket' ;;
    ngrokctl,rotate-cert,--socket) takes='file' ;;
    ngrokctl,ping,options) takes='words -h --help --json --socket' ;;
    ngrokctl,ping,--socket) takes='file' ;;
    ngrokctl,version,options) takes='words -h --help --json --socket' ;;
    ngrokctl,version,--socket) takes='file' ;;
    ngrokctl,list,options) takes='words -h --help --json --socket --all --hosts' ;;
    ngrokctl,list,--socket) takes='file' ;;
    ngrokctl,list,0) takes='words bound-endpoints' ;;
    ngrokctl,open,options) takes='words -h --help --json --socket' ;;
    ngrokctl,open,--socket) takes='file' ;;
    ngrokctl,open,0) takes='hostname' ;;
    ngrokctl,set-api-key,options) takes='words -h --help --json --socket' ;;
    ngrokctl,set-api-key,--socket) takes='file' ;;
    ngrokctl,set-api-key,0) takes='anything' ;;
    ngrokctl,wait,options) takes='words -h --help --json --socket --for --endpoints --timeout' ;;
    ngrokctl,wait,--socket) takes='file' ;;
    ngrokctl,wait,--for) takes='hostname' ;;
    ngrokctl,wait,--endpoints) takes='anything' ;;
    ngrokctl,wait,--timeout) takes='anything' ;;
    ngrokctl,deregister,options) takes='words -h --help --json --socket --yes' ;;
    ngrokctl,deregister,--socket) takes='file' ;;
    ngrokctl,top,options) takes='words -h --help --json --socket --once --interval --sort --filter' ;;
    ngrokctl,top,--socket) takes='file' ;;
    ngrokctl,top,--interval) takes='anything' ;;
    ngrokctl,top,--sort) takes='words name connections up down traffic errors active state' ;;
    ngrokctl,top,--filter) takes='anything' ;;
    ngrokctl,trust,options) takes='words -h --help --json --socket --fingerprint --yes --config' ;;
    ngrokctl,trust,--socket) takes='file' ;;
    ngrokctl,trust,--fingerprint) takes='anything' ;;
    ngrokctl,trust,--config) takes='file' ;;
    ngrokctl,trust,0) takes='file' ;;
    ngrokctl,doctor,options) takes='words -h --help --json --socket --config --bundle' ;;
    ngrokctl,doctor,--socket) takes='file' ;;
    ngrokctl,doctor,--config) takes='file' ;;
    ngrokctl,doctor,--bundle) takes='file' ;;
    ngrokctl,log-level,options) takes='words -h --help --json --socket' ;;
    ngrokctl,log-level,--socket) takes='file' ;;
    ngrokctl,log-level,0) takes='words debug info warning error' ;;
    ngrokctl,config,options) takes='words -h --help --json --socket --config' ;;
    ngrokctl,config,--socket) takes='file' ;;
    ngrokctl,config,--config) takes='file' ;;
    ngrokctl,config,0) takes='words show edit path' ;;
    ngrokctl,completion,options) takes='words -h --help --json --socket' ;;
    ngrokctl,completion,--socket) takes='file' ;;
    ngrokctl,completion,0) takes='words bash zsh fish' ;;
    ngrokctl,help,options) takes='words -h --help --json --socket' ;;
    ngrokctl,help,--socket) takes='file' ;;
    ngrokctl,help,0) takes='words status health events refresh reload rotate-cert ping version list open set-api-key wait deregister top trust doctor log-level config completion help' ;;
    ngrokctl,,0) takes='words status health events refresh reload rotate-cert ping version list open set-api-key wait deregister top trust doctor log-level config completion help' ;;
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

complete -F _ngrokd ngrokd ngrokctl
