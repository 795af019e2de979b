"""The sub-commands of `terse`, one file an area; each offers `register(app)`."""
