"""The categories of the generated streets, in the colours usual for street scenes."""

from tascnet.structures import Category, LabelSpace

STREETS = LabelSpace(
    (
        Category(1, "road", False, (128, 64, 128), "ground"),
        Category(2, "pavement", False, (244, 35, 232), "ground"),
        Category(3, "building", False, (70, 70, 70), "construction"),
        Category(4, "vegetation", False, (107, 142, 35), "nature"),
        Category(5, "sky", False, (70, 130, 180), "nature"),
        Category(6, "person", True, (220, 20, 60), "human"),
        Category(7, "car", True, (0, 0, 142), "vehicle"),
        Category(8, "truck", True, (0, 60, 100), "vehicle"),
        Category(9, "bicycle", True, (119, 11, 32), "vehicle"),
        Category(10, "traffic sign", True, (220, 220, 0), "object"),
    )
)
"""Five categories of stuff and five of things."""

ROAD, PAVEMENT, BUILDING, VEGETATION, SKY, PERSON, CAR, TRUCK, BICYCLE, TRAFFIC_SIGN = (
    category.id for category in STREETS.categories
)
