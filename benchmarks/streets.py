"""Scenes per second of the generated streets on one thread, and how large the things in them are.

python benchmarks/streets.py --scenes 100
"""

import argparse
import time
from collections import Counter

import torch

from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.structures import Size

BUCKETS = ((32 * 32, "small (under 32 x 32)"), (96 * 96, "medium (to 96 x 96)"), (float("inf"), "large"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--sizes", nargs="+", default=["128x256", "256x512", "512x1024"], help="height x width")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'size':>10} {'scenes/s':>9} {'median ms':>10} {'things':>7} {'crowds':>7}  things by size")
    for text in arguments.sizes:
        height, width = map(int, text.split("x"))
        print(f"{text:>10} {measure(Streets(arguments.scenes, Size(height, width)))}")


def measure(streets: Streets) -> str:
    streets[0]  # noise is made once a process
    things, crowds, seconds = Counter(), 0, []
    for index in range(len(streets)):
        start = time.process_time()  # of this process alone, so that a busy machine does not count
        segmentation = streets[index].segmentation
        seconds.append(time.process_time() - start)
        for segment in segmentation.segments:
            crowds += segment.is_crowd
            if STREETS[segment.category_id].is_thing and not segment.is_crowd:
                things[next(name for limit, name in BUCKETS if segment.area < limit)] += 1
    count = len(streets)
    sizes = ", ".join(f"{things[name] / count:.1f} {name}" for _, name in BUCKETS)
    rate, median = count / sum(seconds), sorted(seconds)[count // 2] * 1000
    return f"{rate:9.1f} {median:10.1f} {things.total() / count:7.1f} {crowds / count:7.2f}  {sizes}"


if __name__ == "__main__":
    main()
