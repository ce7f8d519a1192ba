"""Models: how a name resolves to weights, and how they are loaded."""
