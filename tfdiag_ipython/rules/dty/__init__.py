"""Rules about dtypes."""
