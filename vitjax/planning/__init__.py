"""What a run costs: a step compiled for hardware that is not here, and what is measured on this machine."""
