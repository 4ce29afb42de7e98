"""A stand-in ngrok cloud on loopback: API, CA, mTLS ingress, sample upstreams."""
