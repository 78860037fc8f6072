"""Identity and access: accounts, projects, role assignments, tokens."""
