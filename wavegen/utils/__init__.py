"""General helpers: writing whole files, sharing work among processes, text.

Open `files` first.
"""
