"""The kinds of plan that rules make their fixes of."""
