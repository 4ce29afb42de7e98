"""The daemon as a process: background, pid file, signals, service manager, threads."""
