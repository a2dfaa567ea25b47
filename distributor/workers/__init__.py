"""Child processes with time and memory limits."""
