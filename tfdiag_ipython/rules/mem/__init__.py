"""Memory: what an allocator refused, and who holds the rest."""
