"""A Wikipedia corpus to a searchable index, and its checks."""
