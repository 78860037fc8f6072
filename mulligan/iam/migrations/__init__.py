"""Revisions of schema `iam`, run by `mulligan.stores.migrate`."""
