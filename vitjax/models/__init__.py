"""What a name builds: the models and the registry of their names."""
