"""The message's road: a file a kind, each with `Settings` and `open`."""
