"""`ngrokctl doctor`: looks at everything that a working ngrokd needs, also with the daemon dead."""
