"""Rules for data sets and data loading."""
