"""Writes the configurations that the peers' schedulers were measured with.

usage: configurations.py FOLDER > configurations.json

FOLDER is the one with problems.py; the i-th list holds the 49 configurations of seed i, drawn by
`problems.sample(numpy.random.default_rng(1000 + i))`.
"""

import json
import sys

import numpy

sys.path.insert(0, sys.argv[1])
import problems  # noqa: E402

parameters = [problem for problem in problems.problems() if "table" in problem][0]["params"]
seeds = []
for seed in range(24):
    generator = numpy.random.default_rng(1000 + seed)
    seeds.append([problems.sample(parameters, generator) for _ in range(49)])
json.dump(seeds, sys.stdout)
