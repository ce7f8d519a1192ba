"""The commands of ``python -m wiki_index``: a file for each, with its flags and its help."""
