"""`python -m hacd`: the command line."""

from hacd.cli.main import main

main()
