"""The command line: one module for each noun, none of which knows how a request travels."""

from mulligan.cli.app import app

__all__ = ["app"]
