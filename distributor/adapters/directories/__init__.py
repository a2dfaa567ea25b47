"""Directories in which certificates are published, one module per kind, each with `Settings` and `open`."""
