"""Turns claims into running machines and takes machines back."""
