"""What `ngrokd VERB` does, and `ngrokctl trust` without a daemon."""
