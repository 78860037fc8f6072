"""BMCs that speak IPMI 2.0, through pyghmi in a process of its own."""
