"""Commands of `tmuad` by topic; each module has `register(app)`."""
