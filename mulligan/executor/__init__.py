"""Runs operations on hardware, step by step, so that any executor can go on where another stopped."""
