"""The command line, one file for each command.

Open `main` first.
"""
