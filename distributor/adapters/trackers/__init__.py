"""Who knows what became of a message: a file a kind, each with `Settings` and `open`."""
