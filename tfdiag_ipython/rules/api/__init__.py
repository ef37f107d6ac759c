"""Arguments and methods that were renamed or removed."""
