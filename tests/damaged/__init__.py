"""Damaged and hostile input for every reader and verb: `python -m tests.damaged` counts how the command line takes it.

cases.py      a case, its place, and the behaviour that is right
judging.py    the outcome of a case -> a verdict
runner.py     each case in a forked child with limits of memory and time
world.py      the sound files that the cases damage
photos.py, coco.py, other_formats.py, configs.py, checkpoints.py, faults.py    the cases, one module per group
byte_damage.py    damage to any file
"""
