"""What shells need to complete the arguments of ngrokctl and ngrokd."""
