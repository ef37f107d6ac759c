"""Findings without exceptions: what a watched cell does that raises nothing."""
