"""Records metrics over HTTP in MLflow and in trainshed, in turns, and prints a table.

    mlflow server --backend-store-uri sqlite:///m.db --port 5000
    trainshed --data-dir data serve --no-agent --listen 127.0.0.1:8080
    python3 mlflow_tracking.py --mlflow http://127.0.0.1:5000 --mlflow-pid PID \
        --trainshed http://127.0.0.1:8080 --trainshed-pid PID --key "$(cat data/key)"

Eight clients, each a process with one connection, send batches that were encoded before.
CPU time is that of the server's processes, from /proc. With PostgreSQL beneath both
(`--backend-store-uri postgresql://…`, `--database postgres://…`) `--database-pid`, the process
that was started, counts its CPU time too.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import random
import time
from urllib.parse import urlparse

CLIENTS = 8
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(root):
    """CPU time of a process and of all below it."""
    below, used = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(name))
        used[int(name)] = sum(map(int, fields[11:15])) / TICKS
    total, waiting = 0.0, [root]
    while waiting:
        process = waiting.pop()
        total += used.get(process, 0.0)
        waiting += below.get(process, [])
    return total


class Server:
    def __init__(self, url, key=None):
        self.connection = http.client.HTTPConnection(urlparse(url).netloc)
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    def post(self, path, body):
        self.connection.request("POST", path, body, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path}: {answer.status} {text[:300]}")
        return json.loads(text or b"{}")


class MLflow(Server):
    def run(self):
        base = "/api/2.0/mlflow"
        name = json.dumps({"name": f"bench {random.random()}"})
        experiment = self.post(f"{base}/experiments/create", name)["experiment_id"]
        body = json.dumps({"experiment_id": experiment, "start_time": int(time.time() * 1e3)})
        return self.post(f"{base}/runs/create", body)["run"]["info"]["run_id"]

    def batch(self, run, points):
        names = ("key", "value", "timestamp", "step")
        metrics = [dict(zip(names, point)) for point in points]
        return "/api/2.0/mlflow/runs/log-batch", json.dumps({"run_id": run, "metrics": metrics})


class Trainshed(Server):
    def run(self):
        task = self.post("/api/v1/tasks", json.dumps({"name": "bench"}))["id"]
        self.post(f"/api/v1/tasks/{task}/start", "{}")
        return task

    def batch(self, run, points):
        names = ("series", "value", "at", "iteration")
        points = [dict(zip(names, point), title="bench") for point in points]
        return f"/api/v1/tasks/{run}/metrics", json.dumps({"points": points})


def client(server, run, size, seconds, barrier, results):
    server = server()
    now, batches = int(time.time() * 1e3), []
    for number in range(64):
        steps = range(number * size, (number + 1) * size)
        points = [(f"m{step % 10}", random.random(), now + step, step) for step in steps]
        batches.append(server.batch(run, points))
    barrier.wait()
    end, times = time.perf_counter() + seconds, []
    while (begun := time.perf_counter()) < end:
        server.post(*batches[len(times) % 64])
        times.append(time.perf_counter() - begun)
    results.put(times)


def measure(server, processes, size, seconds):
    runs = [server().run() for _ in range(CLIENTS)]
    barrier, results = multiprocessing.Barrier(CLIENTS + 1), multiprocessing.Queue()
    clients = [
        multiprocessing.Process(target=client, args=(server, run, size, seconds, barrier, results))
        for run in runs
    ]
    for one in clients:
        one.start()
    barrier.wait()
    used = lambda: sum(map(cpu_seconds, processes))
    cpu, begun = used(), time.perf_counter()
    times = sorted(sum((results.get() for _ in clients), []))
    took, cpu = time.perf_counter() - begun, used() - cpu
    count = len(times) * size
    return count / took, count / max(cpu, 0.01), times[len(times) // 2], times[len(times) * 95 // 100]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--mlflow", "--trainshed", "--key"):
        parser.add_argument(name, required=True)
    for name in ("--mlflow-pid", "--trainshed-pid"):
        parser.add_argument(name, required=True, type=int)
    parser.add_argument("--database-pid", type=int)
    parser.add_argument("--seconds", type=float, default=6)
    given = parser.parse_args()
    database = [given.database_pid] if given.database_pid else []
    servers = {
        "MLflow": (lambda: MLflow(given.mlflow), [given.mlflow_pid, *database]),
        "trainshed": (lambda: Trainshed(given.trainshed, given.key), [given.trainshed_pid, *database]),
    }
    print("| metrics a call | server | metrics/s | metrics a CPU second | p50, p95 of a call |")
    print("|---|---|---:|---:|---|")
    for size in (1, 1000):
        for name, (server, processes) in servers.items():
            rate, per_cpu, middle, slow = measure(server, processes, size, given.seconds)
            times = f"{middle * 1e3:.1f}, {slow * 1e3:.1f} ms"
            print(f"| {size} | {name} | {rate:,.0f} | {per_cpu:,.0f} | {times} |", flush=True)


if __name__ == "__main__":
    main()
