"""The only part that knows IPython."""
