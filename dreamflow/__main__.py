"""`python -m dreamflow`."""

from dreamflow.cli import main

main()
