"""How a model is trained: optimizers, schedules, the step and its loop, checkpoints and records."""
