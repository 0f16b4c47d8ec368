"""The command line, and the composition root: only here are objects wired together."""

# Importing a module adds its commands; their order is the order of the help.
from tidegate.cli import publish, serve, question, local, principal, access, domain, bench  # noqa: F401, I001
from tidegate.cli.program import app, main

__all__ = ["app", "main"]
