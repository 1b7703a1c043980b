"""Opening COCO's panoptic training set: seconds, peak memory, and what is sent to a worker of a DataLoader.

The JSON file is made here, as large as the official one: 118,287 photos, 11 segments each, 133 categories. No photos
are needed to open it. Each figure is taken in a fresh process.

python benchmarks/coco_reader.py --photos 118287
"""

import argparse
import json
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tascnet.data.formats.coco import CocoPanoptic

CATEGORIES = 133
THINGS = 80
SEGMENTS = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=118_287)
    parser.add_argument("--open", type=Path, help="open this file in this process and print what it takes")
    arguments = parser.parse_args()
    if arguments.open:
        measure(arguments.open)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panoptic_train2017.json"
        write_json_file(path, arguments.photos)
        path.with_suffix("").mkdir()
        print(
            f"{arguments.photos:,} photos, {arguments.photos * SEGMENTS:,} segments, {path.stat().st_size / 1e6:.0f} MB"
        )
        subprocess.run([sys.executable, __file__, "--open", path], check=True)


def write_json_file(path: Path, photos: int) -> None:
    """A panoptic JSON with all keys that the official one has, photo by photo."""
    dice = random.Random(0)
    categories = [
        {"id": i + 1, "name": f"category {i}", "isthing": int(i < THINGS), "color": [i, i, i], "supercategory": "group"}
        for i in range(CATEGORIES)
    ]
    with path.open("w", encoding="ascii") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        for number in range(photos):
            file.write(", " * (number > 0) + json.dumps(_image(number)))
        file.write('], "annotations": [')
        for number in range(photos):
            file.write(", " * (number > 0) + json.dumps(_annotation(number, dice)))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def measure(path: Path) -> None:
    """Print what opening takes; the peak is above what the process holds with everything imported."""
    before = _peak_megabytes()
    start = time.perf_counter(), time.process_time()
    dataset = CocoPanoptic(path)
    seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = _peak_megabytes()
    print(f"opened {len(dataset):,} photos in {seconds:.1f} s ({cpu_seconds:.1f} s of processor time)")
    print(f"peak {peak:.0f} MB, of which {before:.0f} MB before")
    start_pickle = time.perf_counter()
    pickled = pickle.dumps(dataset)
    pickle.loads(pickled)
    print(f"a worker gets {len(pickled) / 1e6:.0f} MB; there and back {time.perf_counter() - start_pickle:.1f} s")


def _image(number: int) -> dict[str, object]:
    name = f"{number:012d}"
    return {
        "license": 3,
        "file_name": f"{name}.jpg",
        "coco_url": f"http://images.cocodataset.org/train2017/{name}.jpg",
        "height": 360,
        "width": 640,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm9.staticflickr.com/8186/{name}_f5b1a8ce3d_z.jpg",
        "id": number,
    }


def _annotation(number: int, dice: random.Random) -> dict[str, object]:
    segments = [
        {
            "id": segment_id,
            "category_id": dice.randint(1, CATEGORIES),
            "iscrowd": 0,
            "bbox": [dice.randrange(640) for _ in range(4)],
            "area": dice.randint(100, 50_000),
        }
        for segment_id in dice.sample(range(1, 2**24), SEGMENTS)
    ]
    return {"segments_info": segments, "file_name": f"{number:012d}.png", "image_id": number}


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # Linux counts in kilobytes


if __name__ == "__main__":
    main()
