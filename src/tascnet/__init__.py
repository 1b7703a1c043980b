"""TASCNet: panoptic segmentation with one network for things and stuff, kept consistent by a shared mask."""

__version__ = "0.1.0"
