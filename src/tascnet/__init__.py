"""TASCNet: panoptic segmentation with one network for things and stuff, kept consistent by a shared mask."""
