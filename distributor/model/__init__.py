"""Pure: values in, values out. No clock, no socket, no file, no environment, no printing."""
