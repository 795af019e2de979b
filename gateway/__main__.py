"""`python -m gateway` is `terse`."""

from gateway.cli import main

main()
