"""The commands of the `tmuad` program by topic; each module has `register(app)`."""
