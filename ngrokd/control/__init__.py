"""People and scripts: control socket, health, metrics, ngrokctl."""
