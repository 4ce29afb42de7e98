"""The service: put into this machine's init system, taken out of it, started and stopped by it."""
