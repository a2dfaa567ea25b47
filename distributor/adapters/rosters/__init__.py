"""Who receives: adapters that read lists of people. A public file here is a kind."""
