"""Bytes: local TCP to the mTLS ingress and back, on the forwarding thread."""
