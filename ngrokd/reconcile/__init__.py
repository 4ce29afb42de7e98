"""What is wished, what is there, and every step from the one to the other."""
