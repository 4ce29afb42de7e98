#compdef ngrokd ngrokctl

_ngrokd_line_ngrokd() {
  local curcontext=$curcontext state
  local -a line commands
  typeset -A opt_args
  local ngrokd_program=${(Q)${words[1]/#\~\//$HOME/}} ngrokd_socket=
  commands=(
    'install:put the service into this machine'\''s init system'
    'uninstall:stop the service and take it out of the init system'
    'start:start the daemon, and wait until it is up'
    'stop:stop the daemon, and wait until it has ended'
    'restart:check the configuration, stop the daemon, start it'
    'reload:check the configuration, and let the daemon read it again'
    'cleanup:remove what a dead daemon left\: names, addresses, socket, pid file'
    'check-config:check a configuration file'
    'sandbox:run only the stand-in cloud'
  )
  _arguments -C -S -A '-*' \
    '(- *)-h[show this help message and exit]' \
    '(- *)--help[show this help message and exit]' \
    '(- *)--version[show the version of ngrokd and end]' \
    '--config=[the configuration file; default\: /etc/ngrokd/config.yml]:PATH:_files' \
    '--foreground[stay in the terminal and log to standard error; implied under a service manager]' \
    '(-v --verbose)-v[log at level debug]' \
    '(-v --verbose)--verbose[log at level debug]' \
    '--sandbox[run against a stand-in cloud, without an account]' \
    '--dir=[with --sandbox\: keep its state in DIR]:DIR:_files -/' \
    '--dry-run[print what a start would do on this machine, and do nothing]' \
    '1:command:->command' \
    '*:: :->words' && return
  case $state in
    command) _describe -t commands command commands && return ;;
    words)
      ngrokd_socket=${opt_args[--socket]-}
      case $line[1] in
        install)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--config=[default\: /etc/ngrokd/config.yml, or what the installed service uses]:PATH:_files' \
            '--init=[the init system, instead of the one that runs\: systemd, openrc, sysv, launchd]:NAME:(systemd openrc sysv launchd)' \
            '--dry-run[print every step, and do nothing]' && return ;;
        uninstall)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--config=[default\: /etc/ngrokd/config.yml, or what the installed service uses]:PATH:_files' \
            '--init=[the init system, instead of the one that runs\: systemd, openrc, sysv, launchd]:NAME:(systemd openrc sysv launchd)' \
            '--dry-run[print every step, and do nothing]' \
            '--purge[also delete the operator at ngrok, then state, configuration and logs]' \
            '--force[with --purge\: even if ngrok cannot be told, and keeps the operator]' && return ;;
        start)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--config=[default\: /etc/ngrokd/config.yml, or what the installed service uses]:PATH:_files' && return ;;
        stop)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--config=[default\: /etc/ngrokd/config.yml, or what the installed service uses]:PATH:_files' && return ;;
        restart)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--config=[default\: /etc/ngrokd/config.yml, or what the installed service uses]:PATH:_files' && return ;;
        reload)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--config=[default\: /etc/ngrokd/config.yml, or what the installed service uses]:PATH:_files' && return ;;
        cleanup)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--config=[default\: /etc/ngrokd/config.yml]:PATH:_files' \
            '--dry-run[print what would be removed, and do nothing]' && return ;;
        check-config)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '1::PATH:_files' && return ;;
        sandbox)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '*--endpoint=[list URL (http, https, tcp or tls) and connect it to HOST\:PORT; may be repeated]:URL=HOST\:PORT:' \
            '--dir=[keep the certificates, operators and files here (default\: a temporary folder)]:DIR:_files -/' \
            '--config-out=[write the configuration for a daemon to FILE too, once everything listens]:FILE:_files' \
            '--port=[the port of the API (default\: a free one)]:N:' \
            '--ingress-port=[the port of the ingress (default\: a free one)]:N:' \
            '--no-samples[without hello.sandbox, files.sandbox and echo.sandbox]' && return ;;
      esac ;;
  esac
  return 1
}

_ngrokd_line_ngrokctl() {
  local curcontext=$curcontext state
  local -a line commands
  typeset -A opt_args
  local ngrokd_program=${(Q)${words[1]/#\~\//$HOME/}} ngrokd_socket=
  commands=(
    'status:show what the daemon is doing'
    'health:tell whether it is healthy and ready; exit code 1 if it is not'
    'events:print what happens as it happens, until Ctrl-C'
    'refresh:ask ngrok for the endpoints now, and return once they are applied'
    'reload:read the configuration again'
    'rotate-cert:ask ngrok for a new client certificate now'
    'ping:tell whether a daemon answers'
    'version:show the versions of ngrokctl and of the daemon'
    'list:show every endpoint, its local address and its state'
    'open:print the address and port that a name is open at, for scripts'
    'set-api-key:give the daemon its ngrok API key'
    'wait:return when the daemon is ready, or a name or a number is open'
    'deregister:take this machine out of ngrok\: its operator, certificate and keys'
    'top:show the endpoints and what flows through them, as it changes'
    'trust:have the daemon trust the CA that ngrok'\''s ingress is signed by'
    'doctor:check everything that ngrokd needs, and say what mends it; daemon or not'
    'log-level:change how much the daemon logs'
    'config:show the configuration or its path, or edit it'
    'completion:print a script that lets a shell complete ngrokctl and ngrokd'
    'help:show this, or the help of one command'
  )
  _arguments -C -S -A '-*' \
    '(- *)-h[show this help message and exit]' \
    '(- *)--help[show this help message and exit]' \
    '(- *)--version[show the version of ngrokctl and end]' \
    '--json[print one JSON object]' \
    '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
    '1:command:->command' \
    '*:: :->words' && return
  case $state in
    command) _describe -t commands command commands && return ;;
    words)
      ngrokd_socket=${opt_args[--socket]-}
      case $line[1] in
        status)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        health)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        events)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        refresh)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        reload)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        rotate-cert)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        ping)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        version)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' && return ;;
        list)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '--all[every skipped endpoint, not only the first few]' \
            '--hosts[the names instead, as they stand in the hosts file or are to be put there]' \
            '1::bound-endpoints:(bound-endpoints)' && return ;;
        open)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '1:HOSTNAME:_ngrokd_hostnames' && return ;;
        set-api-key)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '1::KEY:' && return ;;
        wait)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '--for=[until this name is open on all of its ports]:HOSTNAME:_ngrokd_hostnames' \
            '--endpoints=[until N endpoints are open]:N:' \
            '--timeout=[for at most S seconds, then exit code 4 (3 if no daemon ever answered); default 60]:S:' && return ;;
        deregister)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '--yes[without a question; needed where there is no terminal]' && return ;;
        top)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '--once[print one frame after one interval and end; needs no terminal]' \
            '--interval=[ask the daemon every S seconds, at least 0.5; default 2]:S:' \
            '--sort=[begin in this order\: name, connections, up, down, traffic, errors, active, state]:ORDER:(name connections up down traffic errors active state)' \
            '--filter=[begin with the endpoints that have these words in URL, address, state or reason]:TEXT:' && return ;;
        trust)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '--fingerprint=[the certificate'\''s SHA-256, with colons or without, to trust another CA than ngrok'\''s, whose fingerprint is known]:SHA256:' \
            '--yes[do not ask on a terminal before it is installed]' \
            '--config=[where no daemon answers, the configuration that names the state folder; default /etc/ngrokd/config.yml]:PATH:_files' \
            '1::FILE-or-URL:_files' && return ;;
        doctor)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '--config=[the configuration to check, instead of that of the daemon that runs or, where none does, of the service that is installed, or /etc/ngrokd/config.yml]:PATH:_files' \
            '--bundle=[also write FILE, a tar.gz for a bug report, with every secret taken out]:FILE:_files' && return ;;
        log-level)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '1:LEVEL:(debug info warning error)' && return ;;
        config)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '--config=[another file than that of the service, or, where none is installed, than /etc/ngrokd/config.yml]:PATH:_files' \
            '1:WHAT:(show edit path)' && return ;;
        completion)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '1:SHELL:(bash zsh fish)' && return ;;
        help)
          _arguments -S \
            '(- *)-h[show this help message and exit]' \
            '(- *)--help[show this help message and exit]' \
            '--json[print one JSON object]' \
            '--socket=[the daemon'\''s control socket; default /var/run/ngrokd.sock]:PATH:_files' \
            '1::COMMAND:(status health events refresh reload rotate-cert ping version list open set-api-key wait deregister top trust doctor log-level config completion help)' && return ;;
      esac ;;
  esac
  return 1
}

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
    ngrokd) _ngrokd_line_ngrokd ;;
    ngrokctl) _ngrokd_line_ngrokctl ;;
  esac
}

# Found in $fpath, this file is the body of the function; sourced, it makes the function known.
if [[ $funcstack[1] == _ngrokd ]]; then
  _ngrokd "$@"
else
  compdef _ngrokd ngrokd ngrokctl
fi
