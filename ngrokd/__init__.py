"""ngrokd: local addresses and names for ngrok's Kubernetes-bound endpoints."""

__version__ = "0.1.0"
