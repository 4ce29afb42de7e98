"""The ngrok API: who we are, and which endpoints exist."""
