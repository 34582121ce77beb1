"""The models, and the registry of their names."""
