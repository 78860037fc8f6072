"""Behaviour told as YAML stories over real gRPC; `runner.py` says how one is written."""
