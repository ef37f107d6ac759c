"""Rules about generating text."""
