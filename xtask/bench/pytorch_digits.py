"""Times training steps of PyTorch for `cargo xtask bench`, on one thread.

Takes the path of the digits CSV; trains what the test guest `measure` trains (64-128-10, ReLU,
cross-entropy, Adam, batches of 32 of four fifths of the rows in random order) and prints
{"us_per_step": the median, "version": of PyTorch} as one line of JSON.
"""

import csv
import json
import statistics
import sys
import time

import torch
from torch import nn

BATCH = 32
WARM_UP_STEPS = 200
MEASURED_STEPS = 2000


def load(path):
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    pixels = [index for index, name in enumerate(header) if name.startswith("pixel_")]
    label = header.index("label")
    x = torch.tensor([[float(row[index]) for index in pixels] for row in rows])
    y = torch.tensor([int(row[label]) for row in rows])
    return x, y


def main():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    x, y = load(sys.argv[1])
    train = torch.randperm(len(x))[: round(len(x) * 0.8)]
    model = nn.Sequential(nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Linear(128, 10))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    times = []
    while len(times) < WARM_UP_STEPS + MEASURED_STEPS:
        order = train[torch.randperm(len(train))]
        for first in range(0, len(order) - BATCH + 1, BATCH):
            started = time.perf_counter()
            rows = order[first : first + BATCH]
            adam.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            adam.step()
            times.append((time.perf_counter() - started) * 1e6)
    measured = times[WARM_UP_STEPS:]
    result = {"us_per_step": statistics.median(measured), "version": torch.__version__}
    print(json.dumps(result))


main()
