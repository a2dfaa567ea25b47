"""Who knows what became of a letter: a file a kind, each with `Settings` and `open`."""
