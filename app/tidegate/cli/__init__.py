"""The command line, and the composition root: only here are objects wired together."""

# Importing a module adds its commands; their order is the order of the help.
from tidegate.cli import (  # noqa: F401, I001
    contract,
    publish,
    model,
    domain,
    serve,
    verify,
    cost,
    scale,
    question,
    local,
    principal,
    token,
    access,
    audit,
    bench,
)
from tidegate.cli.program import app, main

__all__ = ["app", "main"]
