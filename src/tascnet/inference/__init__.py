"""Images -> their panoptic segmentations."""
