"""With what: adapters that find certificates with their keys. A public file here is a kind."""
