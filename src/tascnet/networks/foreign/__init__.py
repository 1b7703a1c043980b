"""Weights made elsewhere -> our parts, one file a source."""
