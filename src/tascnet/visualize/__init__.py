"""Image + segmentation -> picture: coloured segments, match map, residual map (the paper's Figures 5 and 4).

Colours and layout are our reading of the paper's figures, which are described by their captions only.
"""

from tascnet.visualize.colors import Color, ImageLike, Picture, heat_table, segment_colors, to_picture, vary_color
from tascnet.visualize.drawing import draw_match_map, draw_residual, draw_segmentation
from tascnet.visualize.sheets import CARD_STRIP, MAX_CELL_SIDE, card, grid, legend

__all__ = [
    "CARD_STRIP",
    "MAX_CELL_SIDE",
    "Color",
    "ImageLike",
    "Picture",
    "card",
    "draw_match_map",
    "draw_residual",
    "draw_segmentation",
    "grid",
    "heat_table",
    "legend",
    "segment_colors",
    "to_picture",
    "vary_color",
]
