"""A daemon under everything that may happen to it, for minutes or hours: `make soak`."""
