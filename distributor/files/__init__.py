"""Files on disk: read with bounds, written whole or not at all, and long lists kept out of memory."""
