"""Deployments and claims as YAML files, and the loader that brings a deployment into a system."""

from mulligan.inventory.claim import ClaimFile, packaged_claim, parse_claim, read_claim, resolve_claim
from mulligan.inventory.deployment import (
    Deployment,
    Layout,
    Profile,
    packaged_deployment,
    parse_deployment,
    read_deployment,
)
from mulligan.inventory.loader import LoadProgress, LoadReport, load_deployment

__all__ = [
    "ClaimFile",
    "Deployment",
    "Layout",
    "LoadProgress",
    "LoadReport",
    "Profile",
    "load_deployment",
    "packaged_claim",
    "packaged_deployment",
    "parse_claim",
    "parse_deployment",
    "read_claim",
    "read_deployment",
    "resolve_claim",
]
