"""A macOS that interprets the commands which ngrokd runs there, and refuses what macOS refuses."""
