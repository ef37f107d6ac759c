"""The built-in pack: one file per rule in a folder per domain, found by walking this package."""
