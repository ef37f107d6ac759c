"""Hub access and downloads."""
