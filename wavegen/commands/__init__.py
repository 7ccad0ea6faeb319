"""The command line, one file a command.

Open `main` first.
"""
