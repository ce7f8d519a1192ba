"""The commands of ``python -m inference``: a file for each, with its flags and its help."""
