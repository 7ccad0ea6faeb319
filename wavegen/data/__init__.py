"""From a folder of recordings to batches: clips, labels, splits, decoding, stores, shards.

Open `clips` first; `settings` says how a data set is read, and a model remembers it.
"""
