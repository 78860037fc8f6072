"""Mulligan: a machine provisioning system for the people who own machines."""

from importlib.metadata import version

__version__ = version("mulligan")
