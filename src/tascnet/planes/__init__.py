"""Coarse planes and masks in boxes over an image: where they lie, interpolated at its pixels."""
