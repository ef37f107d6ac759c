"""Names and modules that do not import: misspelt, removed, too new, missing packages, versions that do not fit
together.
"""
