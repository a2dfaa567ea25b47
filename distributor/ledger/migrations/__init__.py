"""How a ledger's database came to be, step by step; packaged with the program and run by `schema.py`."""
