"""Helpers without a subject: whole-file writing, processes of one job, text.

Open `files` first.
"""
