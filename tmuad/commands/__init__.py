"""Commands of `tmuad`, a module per topic; `tmuad/cli.py` registers them."""
