"""Generates the stubs of `mulligan/api` and the smart clients from `proto/`."""
