"""Services that know what happened to sent messages, one module per kind, each with `Settings` and `open`."""
