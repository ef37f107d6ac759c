"""Indices out of range and device-side asserts."""
