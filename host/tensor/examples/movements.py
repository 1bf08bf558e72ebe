"""Times what movements.rs times, with PyTorch on one thread.

Prints a line per operation: its name and the fastest of many runs in microseconds.
"""

import sys
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(1)
SECONDS = 0.6


def measure(name, function):
    if len(sys.argv) > 1 and sys.argv[1] not in name:
        return
    fastest, runs, begin = float("inf"), 0, time.perf_counter()
    while runs < 5 or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        function()
        fastest = min(fastest, time.perf_counter() - start)
        runs += 1
    print(f"{name:<28} {fastest * 1e6:>10.1f}", flush=True)


ROWS = 1_000_000
table = torch.randn(ROWS, 32)
places = torch.randint(0, ROWS, (4096, 26))
flat = places.flatten()
updates = torch.randn(106_496, 32)
small = torch.randn(10_000, 32)
near = flat % 10_000
square = torch.randn(2048, 2048)
other = torch.randn(2048, 2048)
columns = torch.randint(0, 2048, (2048,))
along = torch.randint(0, 2048, (2048, 2048))
million = torch.randn(1_000_000)
rows = million.reshape(1000, 1000)
narrow = torch.randn(100_000, 8), torch.randn(100_000, 8)
images = torch.randn(32, 16, 64, 64)
heads = torch.randn(32, 128, 8, 32)
labels = torch.randint(0, 1000, (4096,))

measure("take", lambda: torch.nn.functional.embedding(places, table))
measure("take-columns", lambda: square.index_select(1, columns))
measure("take-along-axis", lambda: square.gather(1, along))
measure("scatter-add-to-zeros", lambda: torch.zeros(ROWS, 32).index_add_(0, flat, updates))
measure("scatter-add", lambda: small.index_add(0, near, updates))
measure("scatter-set", lambda: small.index_copy(0, near, updates))
measure("scatter-add-along-axis", lambda: square.scatter_add(1, along, other))
measure("sort", lambda: million.sort(stable=True))
measure("sort-rows", lambda: rows.sort(dim=1, stable=True))
measure("sort-columns", lambda: rows.sort(dim=0, stable=True))
measure("top-k", lambda: million.topk(10))
measure("top-k-rows", lambda: rows.topk(5, 1))
measure("arg-max", lambda: rows.argmax(1))
measure("cumulative-sum", lambda: million.cumsum(0))
measure("cumulative-sum-rows", lambda: rows.cumsum(1))
measure("cumulative-sum-columns", lambda: rows.cumsum(0))
measure("cumulative-product", lambda: rows.cumprod(1))
measure("concatenate-rows", lambda: torch.cat([square, other], 0))
measure("concatenate-columns", lambda: torch.cat([square, other], 1))
measure("concatenate-narrow", lambda: torch.cat(narrow, 1))
measure("pad", lambda: torch.nn.functional.pad(images, (1, 1, 1, 1)))
measure("slice-strided", lambda: square[::2, ::2].contiguous())
measure("reverse", lambda: square.flip(1))
measure("transpose", lambda: square.t().contiguous())
measure("transpose-heads", lambda: heads.permute(0, 2, 1, 3).contiguous())
measure("transpose-channels", lambda: images.permute(0, 2, 3, 1).contiguous())
measure("one-hot", lambda: torch.nn.functional.one_hot(labels, 1000).float())
