"""Inventory, placement and reservation: who provides what, and who uses it when."""
