"""Callbacks that a config names in `callbacks`."""

CALLBACKS = {}
