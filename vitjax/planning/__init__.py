"""The cost of a run: train steps compiled for absent hardware, and measurements on this machine."""
