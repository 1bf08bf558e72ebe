"""Times training steps of PyTorch for `cargo xtask bench compute`.

    python pytorch_compute.py TASK THREADS MODE [FOLDER]

TASK is one of a to h (see `TASKS`), MODE is `eager` or `compile`. Prints one JSON object:
the fastest and the median of ten means of the time of a step in microseconds, the losses of the first steps, and
the memory that training added to the process at its peak. With FOLDER, writes the batch and
the initial parameters there as `batch.safetensors` and `parameters.safetensors`, so that the
same training can be done by others; of a task that has epochs also their batches, one behind
the other, as `batches.safetensors`.

With the MODE `epochs`, which a to d have, the model learns from these batches instead, in the
same order in each epoch, and what is printed are the mean losses of the epochs.
"""

import csv
import json
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

LOSSES = 20
# How often `steps` steps are timed.
ROUNDS = 10


def resident(field):
    """A size of this process in bytes, as the kernel counts it."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


def save(path, tensors):
    """Writes tensors in the safetensors format."""
    header, data, offset = {}, [], 0
    kinds = {torch.float32: "F32", torch.int32: "I32", torch.int64: "I64"}
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().tobytes()
        ends = [offset, offset + len(raw)]
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ends}
        data.append(raw)
        offset = ends[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


class Task:
    """A model, its batch (floats, then `i32` labels or indices), and its loss."""

    steps = 10
    # Of which a task may have none.
    epochs = 0

    def optimizer(self, parameters):
        return torch.optim.Adam(parameters, lr=1e-3)

    def batches(self):
        """The batches of an epoch: as the one, with other numbers."""
        count = 8 if self.epochs else 0
        return [{name: torch.rand(part.shape) if part.is_floating_point() else part
                 for name, part in self.batch.items()} for _ in range(count)]


class Digits(Task):
    """MLP 64-128-10, 32 rows."""

    steps = 500
    epochs = 20

    def __init__(self):
        self.model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        self.batch = {"x": torch.rand(32, 64), "y": (torch.arange(32) % 10).int()}

    def batches(self):
        """44 batches of the handwritten digits; 389 of the 1,797 are left out."""
        path = os.path.join(os.path.dirname(__file__), "../../plugins/digits-mlp/data/digits.csv")
        with open(path) as file:
            rows = [[int(cell) for cell in row] for row in list(csv.reader(file))[1:]]
        rows = torch.tensor(rows, dtype=torch.int32)
        chosen = rows[torch.randperm(len(rows))[:44 * 32]].reshape(44, 32, 65)
        return [{"x": batch[:, :64] / 16, "y": batch[:, 64]} for batch in chosen]

    def loss(self, model, x, y):
        return F.cross_entropy(model(x), y.long())


class Mlp(Task):
    """MLP 784-512-256-10, 128 rows."""

    steps = 30
    epochs = 5

    def __init__(self):
        self.model = nn.Sequential(
            nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
        )
        self.batch = {"x": torch.rand(128, 784), "y": (torch.arange(128) % 10).int()}

    def loss(self, model, x, y):
        return F.cross_entropy(model(x), y.long())


class Cnn(Task):
    """Convolutions 32 and 64 (3x3), max-pool, 128-10, 64 images of 28x28."""

    steps = 3
    # In later ones rectifiers and pools choose by the last bits: in the fourth PyTorch with
    # `f32` is 7e-4 and more away from itself with `f64`, for most orders of a batch's rows.
    epochs = 2

    def __init__(self):
        self.model = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
        )
        self.batch = {"x": torch.rand(64, 1, 28, 28), "y": (torch.arange(64) % 10).int()}

    def loss(self, model, x, y):
        return F.cross_entropy(model(x), y.long())


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(128), nn.LayerNorm(128)
        self.qkv, self.out = nn.Linear(128, 384), nn.Linear(128, 128)
        self.up, self.down = nn.Linear(128, 512), nn.Linear(512, 128)

    def forward(self, x):
        rows, positions, width = x.shape
        heads = self.qkv(self.norm1(x)).reshape(rows, positions, 3, 4, 32).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        x = x + self.out(seen.transpose(1, 2).reshape(rows, positions, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(Task):
    """Pre-norm block, width 128, 4 heads, 64 positions, 16 rows, plain gradient descent."""

    steps = 15
    epochs = 5

    def __init__(self):
        self.model = Block()
        self.batch = {"x": torch.rand(16, 64, 128)}

    def optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=1e-2)

    def loss(self, model, x):
        return model(x).square().mean()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(128, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Lstm(Task):
    """LSTM of 128 inputs and 128 units, 64 steps, 32 rows."""

    steps = 10

    def __init__(self):
        self.model = Recurrent()
        self.batch = {"x": torch.rand(32, 64, 128), "y": (torch.arange(32) % 10).int()}

    def loss(self, model, x, y):
        return F.cross_entropy(model(x), y.long())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.norm2 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(x + self.norm2(self.conv2(y)))
        return self.head(y.mean((2, 3)))


class ResNet(Task):
    """Residual block of two 3x3 convolutions with batch norm, 64 channels, 32 images of 16x16."""

    steps = 6

    def __init__(self):
        self.model = Residual()
        self.batch = {"x": torch.rand(32, 64, 16, 16), "y": (torch.arange(32) % 10).int()}

    def loss(self, model, x, y):
        return F.cross_entropy(model(x), y.long())


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(20_000, 16) for _ in range(8))
        self.dense = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(9 * 16, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x, kinds):
        parts = [self.dense(x)]
        parts += [table(kinds[:, place].long()) for place, table in enumerate(self.tables)]
        return self.top(torch.cat(parts, 1))[:, 0]


class Recommendation(Task):
    """Eight embeddings of 20,000 x 16, 13 numbers, an MLP; 2,048 rows."""

    steps = 6

    def __init__(self):
        self.model = Recommender()
        self.batch = {
            "x": torch.rand(2048, 13),
            "kinds": torch.randint(0, 20_000, (2048, 8)).int(),
            "y": (torch.arange(2048) % 2).float(),
        }

    def loss(self, model, x, kinds, y):
        return F.binary_cross_entropy_with_logits(model(x, kinds), y)


class Logistic(Task):
    """Logistic regression of 32 numbers, all of 1,000,000 rows in each step."""

    steps = 6

    def __init__(self):
        self.model = nn.Linear(32, 1)
        self.batch = {"x": torch.rand(1_000_000, 32), "y": (torch.arange(1_000_000) % 2).float()}

    def optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=1e-1)

    def loss(self, model, x, y):
        return F.binary_cross_entropy_with_logits(model(x)[:, 0], y)


TASKS = {
    "a": Digits, "b": Mlp, "c": Cnn, "d": Transformer,
    "e": Lstm, "f": ResNet, "g": Recommendation, "h": Logistic,
}


def epochs(task, batches):
    """The mean loss of each epoch."""
    optimizer = task.optimizer(task.model.parameters())
    means = []
    for _ in range(task.epochs):
        losses = []
        for batch in batches:
            optimizer.zero_grad()
            loss = task.loss(task.model, *batch.values())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        means.append(float(np.mean(losses)))
    return means


def main():
    name, threads, mode, *folder = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.set_num_interop_threads(1)
    torch.manual_seed(1337)
    task = TASKS[name]()
    torch.manual_seed(4242)
    batches = task.batches()
    if mode == "epochs":
        print(json.dumps({"losses": epochs(task, batches)}))
        return
    if folder:
        os.makedirs(folder[0], exist_ok=True)
        save(os.path.join(folder[0], "batch.safetensors"), task.batch)
        save(os.path.join(folder[0], "parameters.safetensors"), task.model.state_dict())
    if folder and batches:
        parts = ((f"{name}.{place}", part)
                 for place, batch in enumerate(batches) for name, part in batch.items())
        save(os.path.join(folder[0], "batches.safetensors"), dict(parts))
    del batches
    # What the libraries hold at their first use is not part of the training.
    torch.mm(torch.rand(64, 64), torch.rand(64, 64))
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # The peak begins anew.
    before = resident("VmRSS")

    optimizer = task.optimizer(task.model.parameters())
    model = torch.compile(task.model) if mode == "compile" else task.model
    batch = list(task.batch.values())

    def step():
        optimizer.zero_grad()
        loss = task.loss(model, *batch)
        loss.backward()
        optimizer.step()
        return loss.item()

    losses = [step() for _ in range(LOSSES)]
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(task.steps):
            step()
        times.append((time.perf_counter() - started) * 1e6 / task.steps)
    print(json.dumps({
        "fastest_us": float(np.min(times)),
        "median_us": float(np.median(times)),
        "losses": losses,
        "peak_bytes": resident("VmHWM") - before,
        "version": torch.__version__,
    }))


main()
