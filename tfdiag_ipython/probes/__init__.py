"""One file per thing looked at; probes are found by walking this package."""
