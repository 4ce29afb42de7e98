"""`ngrokctl top`: the daemon and its endpoints as they change, on a whole screen."""
