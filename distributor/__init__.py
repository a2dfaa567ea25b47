"""S/MIME certificates to phones: packaged, sent, handed over and accounted for."""

__version__ = "0.1.0"
