"""The kernel itself: what is to be done after a restart."""
