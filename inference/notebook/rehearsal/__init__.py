"""A bundle's notebook, run before it is submitted as the judge will run it, and harder."""
