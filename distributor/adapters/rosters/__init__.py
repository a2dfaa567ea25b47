"""Lists of people who receive certificates, one module per kind, each with `Settings` and `open`."""
