"""What `ngrokctl` prints for people, kept as text: `make outputs` writes it anew."""
