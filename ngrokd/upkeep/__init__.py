"""Keeps this machine registered, certified, up to date and pointed at the ingress."""
