"""The verbs. Core and ports only; adapters arrive as arguments."""
