# fish completion for ngrokd and ngrokctl
# Loaded under either program's name, and again by hand, it says everything once.

# Succeeds if the command on the line is $argv[2] ("": none yet), and, if there is an $argv[3], that
# many words have been given after it. $argv[1] is the program.
function __ngrokd_at
    set -l words (commandline -opc)
    set -l valued
    switch $argv[1]
        case ngrokd
            set valued --config --config-out --dir --endpoint --ingress-port --init --port
        case ngrokctl
            set valued --bundle --config --endpoints --filter --fingerprint --for --interval --socket --sort --timeout
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

complete -c ngrokd -e
complete -c ngrokd -f
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a install -d 'put the service into this machine\'s init system'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a uninstall -d 'stop the service and take it out of the init system'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a start -d 'start the daemon, and wait until it is up'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a stop -d 'stop the daemon, and wait until it has ended'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a restart -d 'check the configuration, stop the daemon, start it'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a reload -d 'check the configuration, and let the daemon read it again'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a cleanup -d 'remove what a dead daemon left: names, addresses, socket, pid file'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a check-config -d 'check a configuration file'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -a sandbox -d 'run only the stand-in cloud'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -l version -d 'show the version of ngrokd and end'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -l config -r -F -d 'the configuration file; default: /etc/ngrokd/config.yml'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -l foreground -d 'stay in the terminal and log to standard error; implied under a service manager'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -s v -l verbose -d 'log at level debug'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -l sandbox -d 'run against a stand-in cloud, without an account'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -l dir -x -a '(__fish_complete_directories)' -d 'with --sandbox: keep its state in DIR'
complete -c ngrokd -n '__ngrokd_at ngrokd \'\'' -l dry-run -d 'print what a start would do on this machine, and do nothing'
complete -c ngrokd -n '__ngrokd_at ngrokd \'install\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'install\'' -l config -r -F -d 'default: /etc/ngrokd/config.yml, or what the installed service uses'
complete -c ngrokd -n '__ngrokd_at ngrokd \'install\'' -l init -x -a 'systemd openrc sysv launchd' -d 'the init system, instead of the one that runs: systemd, openrc, sysv, launchd'
complete -c ngrokd -n '__ngrokd_at ngrokd \'install\'' -l dry-run -d 'print every step, and do nothing'
complete -c ngrokd -n '__ngrokd_at ngrokd \'uninstall\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'uninstall\'' -l config -r -F -d 'default: /etc/ngrokd/config.yml, or what the installed service uses'
complete -c ngrokd -n '__ngrokd_at ngrokd \'uninstall\'' -l init -x -a 'systemd openrc sysv launchd' -d 'the init system, instead of the one that runs: systemd, openrc, sysv, launchd'
complete -c ngrokd -n '__ngrokd_at ngrokd \'uninstall\'' -l dry-run -d 'print every step, and do nothing'
complete -c ngrokd -n '__ngrokd_at ngrokd \'uninstall\'' -l purge -d 'also delete the operator at ngrok, then state, configuration and logs'
complete -c ngrokd -n '__ngrokd_at ngrokd \'uninstall\'' -l force -d 'with --purge: even if ngrok cannot be told, and keeps the operator'
complete -c ngrokd -n '__ngrokd_at ngrokd \'start\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'start\'' -l config -r -F -d 'default: /etc/ngrokd/config.yml, or what the installed service uses'
complete -c ngrokd -n '__ngrokd_at ngrokd \'stop\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'stop\'' -l config -r -F -d 'default: /etc/ngrokd/config.yml, or what the installed service uses'
complete -c ngrokd -n '__ngrokd_at ngrokd \'restart\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'restart\'' -l config -r -F -d 'default: /etc/ngrokd/config.yml, or what the installed service uses'
complete -c ngrokd -n '__ngrokd_at ngrokd \'reload\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'reload\'' -l config -r -F -d 'default: /etc/ngrokd/config.yml, or what the installed service uses'
complete -c ngrokd -n '__ngrokd_at ngrokd \'cleanup\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'cleanup\'' -l config -r -F -d 'default: /etc/ngrokd/config.yml'
complete -c ngrokd -n '__ngrokd_at ngrokd \'cleanup\'' -l dry-run -d 'print what would be removed, and do nothing'
complete -c ngrokd -n '__ngrokd_at ngrokd \'check-config\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'check-config\' 0' -r -F -d 'the configuration file; default: /etc/ngrokd/config.yml'
complete -c ngrokd -n '__ngrokd_at ngrokd \'sandbox\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokd -n '__ngrokd_at ngrokd \'sandbox\'' -l endpoint -x -d 'list URL (http, https, tcp or tls) and connect it to HOST:PORT; may be repeated'
complete -c ngrokd -n '__ngrokd_at ngrokd \'sandbox\'' -l dir -x -a '(__fish_complete_directories)' -d 'keep the certificates, operators and files here (default: a temporary folder)'
complete -c ngrokd -n '__ngrokd_at ngrokd \'sandbox\'' -l config-out -r -F -d 'write the configuration for a daemon to FILE too, once everything listens'
complete -c ngrokd -n '__ngrokd_at ngrokd \'sandbox\'' -l port -x -d 'the port of the API (default: a free one)'
complete -c ngrokd -n '__ngrokd_at ngrokd \'sandbox\'' -l ingress-port -x -d 'the port of the ingress (default: a free one)'
complete -c ngrokd -n '__ngrokd_at ngrokd \'sandbox\'' -l no-samples -d 'without hello.sandbox, files.sandbox and echo.sandbox'

complete -c ngrokctl -e
complete -c ngrokctl -f
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a status -d 'show what the daemon is doing'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a health -d 'tell whether it is healthy and ready; exit code 1 if it is not'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a events -d 'print what happens as it happens, until Ctrl-C'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a refresh -d 'ask ngrok for the endpoints now, and return once they are applied'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a reload -d 'read the configuration again'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a rotate-cert -d 'ask ngrok for a new client certificate now'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a ping -d 'tell whether a daemon answers'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a version -d 'show the versions of ngrokctl and of the daemon'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a list -d 'show every endpoint, its local address and its state'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a open -d 'print the address and port that a name is open at, for scripts'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a set-api-key -d 'give the daemon its ngrok API key'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a wait -d 'return when the daemon is ready, or a name or a number is open'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a deregister -d 'take this machine out of ngrok: its operator, certificate and keys'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a top -d 'show the endpoints and what flows through them, as it changes'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a trust -d 'have the daemon trust the CA that ngrok\'s ingress is signed by'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a doctor -d 'check everything that ngrokd needs, and say what mends it; daemon or not'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a log-level -d 'change how much the daemon logs'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a config -d 'show the configuration or its path, or edit it'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a completion -d 'print a script that lets a shell complete ngrokctl and ngrokd'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -a help -d 'show this, or the help of one command'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -l version -d 'show the version of ngrokctl and end'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'status\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'status\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'status\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'health\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'health\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'health\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'events\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'events\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'events\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'refresh\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'refresh\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'refresh\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'reload\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'reload\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'reload\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'rotate-cert\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'rotate-cert\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'rotate-cert\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'ping\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'ping\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'ping\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'version\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'version\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'version\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'list\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'list\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'list\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'list\'' -l all -d 'every skipped endpoint, not only the first few'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'list\'' -l hosts -d 'the names instead, as they stand in the hosts file or are to be put there'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'list\' 0' -x -a 'bound-endpoints' -d 'may be said, and changes nothing'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'open\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'open\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'open\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'open\' 0' -x -a '(__ngrokd_hostnames)' -d 'of an endpoint: all of its ports, one a line, unless HOSTNAME:PORT names one'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'set-api-key\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'set-api-key\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'set-api-key\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'wait\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'wait\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'wait\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'wait\'' -l for -x -a '(__ngrokd_hostnames)' -d 'until this name is open on all of its ports'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'wait\'' -l endpoints -x -d 'until N endpoints are open'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'wait\'' -l timeout -x -d 'for at most S seconds, then exit code 4 (3 if no daemon ever answered); default 60'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'deregister\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'deregister\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'deregister\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'deregister\'' -l yes -d 'without a question; needed where there is no terminal'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'top\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'top\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'top\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'top\'' -l once -d 'print one frame after one interval and end; needs no terminal'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'top\'' -l interval -x -d 'ask the daemon every S seconds, at least 0.5; default 2'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'top\'' -l sort -x -a 'name connections up down traffic errors active state' -d 'begin in this order: name, connections, up, down, traffic, errors, active, state'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'top\'' -l filter -x -d 'begin with the endpoints that have these words in URL, address, state or reason'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'trust\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'trust\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'trust\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'trust\'' -l fingerprint -x -d 'the certificate\'s SHA-256, with colons or without, to trust another CA than ngrok\'s, whose fingerprint is known'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'trust\'' -l yes -d 'do not ask on a terminal before it is installed'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'trust\'' -l config -r -F -d 'where no daemon answers, the configuration that names the state folder; default /etc/ngrokd/config.yml'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'trust\' 0' -r -F -d 'a PEM file with the CA\'s certificate, an https:// URL, or - for standard input; default: the file that ngrok publishes on GitHub'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'doctor\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'doctor\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'doctor\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'doctor\'' -l config -r -F -d 'the configuration to check, instead of that of the daemon that runs or, where none does, of the service that is installed, or /etc/ngrokd/config.yml'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'doctor\'' -l bundle -r -F -d 'also write FILE, a tar.gz for a bug report, with every secret taken out'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'log-level\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'log-level\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'log-level\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'log-level\' 0' -x -a 'debug info warning error' -d 'one of debug, info, warning, error'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'config\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'config\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'config\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'config\'' -l config -r -F -d 'another file than that of the service, or, where none is installed, than /etc/ngrokd/config.yml'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'config\' 0' -x -a 'show edit path' -d 'show: every setting, and where its value comes from; path: where the file is; edit: open it in $VISUAL or $EDITOR, check it, put it in place and reload'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'completion\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'completion\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'completion\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'completion\' 0' -x -a 'bash zsh fish' -d 'one of bash, zsh, fish'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'help\'' -s h -l help -d 'show this help message and exit'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'help\'' -l json -d 'print one JSON object'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'help\'' -l socket -r -F -d 'the daemon\'s control socket; default /var/run/ngrokd.sock'
complete -c ngrokctl -n '__ngrokd_at ngrokctl \'help\' 0' -x -a 'status health events refresh reload rotate-cert ping version list open set-api-key wait deregister top trust doctor log-level config completion help' -d 'the one to explain'
