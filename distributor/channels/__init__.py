"""The password's roads; a public module's name is its kind."""
