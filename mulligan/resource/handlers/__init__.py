"""The RPCs of the resource service, one file for each noun."""
