"""Ways to send messages, one module per kind, each with `Settings` and `open`."""
