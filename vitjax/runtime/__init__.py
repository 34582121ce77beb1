"""The process of a command: compiled programs, memory, signals and several hosts."""
