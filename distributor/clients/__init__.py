"""One signed-in connection to a service, shared by its adapters."""
