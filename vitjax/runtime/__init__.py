"""The process of a command: its compiled programs and its memory."""
