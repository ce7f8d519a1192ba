"""A solution as what Kaggle takes: a dataset with all inputs, and a notebook that runs them offline."""
