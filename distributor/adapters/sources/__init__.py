"""Sources of certificates with their keys, one module per kind, each with `Settings` and `open`."""
