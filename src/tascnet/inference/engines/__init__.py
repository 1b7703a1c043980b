"""Engines: a batch of images -> the outputs of a network's heads, by one runtime each."""
