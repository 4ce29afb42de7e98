"""This machine: addresses, names, files, commands. The only room that needs root."""
