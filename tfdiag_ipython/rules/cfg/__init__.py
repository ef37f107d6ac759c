"""Auto classes and configurations."""
