"""Records what Ray's own classes decide, for the tests to replay.

usage: python record.py > ray.json      (with `pip install "ray[tune]"`; recorded with 2.60.0)

Schedulers are driven without Ray's runtime: a small controller hands them the reports of made-up
trials, all of which run at once, in a random order, and writes down every answer. The variant
generator is asked for all its trials. Only what the classes answer is recorded.
"""

import json
import logging
import random

import numpy
import ray
from ray.tune.experiment import Experiment
from ray.tune.registry import register_trainable
from ray.tune.schedulers import AsyncHyperBandScheduler, HyperBandScheduler
from ray.tune.search import BasicVariantGenerator
from ray import tune

logging.disable(logging.CRITICAL)


class Trial:
    """As much of a trial as the schedulers look at."""

    is_saving = False

    def __init__(self, number):
        self.number = number
        self.trial_id = f"t{number:05d}"
        self.time = 0
        self.status = "RUNNING"
        self.last_result = {}

    def is_finished(self):
        return self.status == "TERMINATED"

    def __repr__(self):
        return self.trial_id


class Controller:
    """As much of the controller as the schedulers call."""

    search_alg = None

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.trials = []
        self.stopped = []

    def get_trials(self):
        return self.trials

    def get_live_trials(self):
        return [trial for trial in self.trials if not trial.is_finished()]

    def stop_trial(self, trial):
        if trial.is_finished():
            return
        waiting = trial.status == "PAUSED"
        trial.status = "TERMINATED"
        self.stopped.append(trial.number)
        if waiting:
            self.scheduler.on_trial_remove(self, trial)


def resumed_by(scheduler, trial):
    """Whether a paused trial may go on, which HyperBand keeps in its brackets."""
    bracket, _ = scheduler._trial_info[trial]
    return trial in bracket.trials_to_unpause


def record(kind, options, trials, seed, mode="max", longest=None, steps=(1,), ties=False):
    """Runs one case. A report is [trial, time, value, answer, stopped others, resumed others]."""
    chance = random.Random(seed)
    numpy.random.seed(seed)
    make = {"asha": AsyncHyperBandScheduler, "hyperband": HyperBandScheduler}[kind]
    scheduler = make(time_attr="training_iteration", **options)
    scheduler.set_search_properties("score", mode)
    controller = Controller(scheduler)
    for number in range(trials):
        trial = Trial(number)
        controller.trials.append(trial)
        scheduler.on_trial_add(controller, trial)
    quality = [chance.random() for _ in range(trials)]
    reports = []
    while True:
        running = [trial for trial in controller.trials if trial.status == "RUNNING"]
        if not running:
            break
        trial = chance.choice(running)
        trial.time += chance.choice(steps)
        noisy = quality[trial.number] * (1 - 0.8**trial.time) + 0.1 * chance.random()
        value = round(noisy, 1 if ties else 4)
        trial.last_result = {"training_iteration": trial.time, "score": value}
        controller.stopped = []
        paused = [other for other in controller.trials if other.status == "PAUSED"]
        answer = scheduler.on_trial_result(controller, trial, trial.last_result)
        stopped = sorted(controller.stopped)
        resumed = []
        if kind == "hyperband":
            resumed = [other for other in paused if other.status == "PAUSED" and resumed_by(scheduler, other)]
        for other in resumed:
            other.status = "RUNNING"
        if answer == "PAUSE":
            trial.status = "PAUSED"
        ends = answer == "CONTINUE" and longest is not None and trial.time >= longest
        if answer == "STOP" or ends:
            trial.status = "TERMINATED"
            scheduler.on_trial_complete(controller, trial, trial.last_result)
        numbers = sorted(other.number for other in resumed)
        reports.append([trial.number, trial.time, value, "END" if ends else answer, stopped, numbers])
    left = [trial.number for trial in controller.trials if trial.status == "PAUSED"]
    return {
        "scheduler": kind,
        "options": options,
        "mode": mode,
        "trials": trials,
        "reports": reports,
        "left_paused": left,
    }


def milestones(options):
    """The milestones of every bracket of ASHA, highest first."""
    scheduler = AsyncHyperBandScheduler(**options)
    rungs = [[milestone for milestone, _ in bracket._rungs] for bracket in scheduler._brackets]
    return {"options": options, "milestones": rungs}


def variants(space, samples, points=(), constant=False):
    """The trials of the variant generator; drawn values are written as null."""
    generator = BasicVariantGenerator(
        points_to_evaluate=list(points), constant_grid_search=constant, random_state=1
    )
    register_trainable("nothing", lambda config: None)
    spaces = {
        name: tune.grid_search(options) if isinstance(options, list) else tune.uniform(0, 1)
        for name, options in space.items()
    }
    experiment = Experiment("nothing", run="nothing", config=spaces, num_samples=samples)
    generator.add_configurations([experiment])
    configs = []
    drawn = {}
    given = {value for point in points for value in point.values() if isinstance(value, float)}
    while (trial := generator.next_trial()) is not None:
        config = {}
        for name, value in trial.config.items():
            is_drawn = space[name] is None and value not in given
            config[name] = None if is_drawn else value
            if is_drawn:
                drawn.setdefault(name, set()).add(value)
        configs.append(config)
    return {
        "space": space,
        "num_samples": samples,
        "points": list(points),
        "constant_grid_search": constant,
        "configs": configs,
        "distinct": {name: len(values) for name, values in sorted(drawn.items())},
    }


def main():
    cases = [
        record("asha", {}, 30, 1, longest=120),
        record("asha", {"max_t": 27, "reduction_factor": 3}, 40, 2),
        record("asha", {"max_t": 27, "reduction_factor": 3}, 40, 3, mode="min"),
        record("asha", {"max_t": 50, "grace_period": 5, "reduction_factor": 2}, 25, 4),
        record("asha", {"max_t": 81, "reduction_factor": 3}, 30, 5, steps=(1, 2, 7, 20)),
        record("asha", {"max_t": 27, "reduction_factor": 2.5}, 30, 6, ties=True),
        record("asha", {"max_t": 27, "reduction_factor": 3}, 30, 7, longest=10),
        record("asha", {"max_t": 16, "reduction_factor": 2, "stop_last_trials": False}, 20, 8, longest=24),
        record("asha", {"max_t": 10, "grace_period": 10}, 8, 9),
        record("hyperband", {"max_t": 27}, 49, 11),
        record("hyperband", {"max_t": 27}, 49, 12, mode="min"),
        record("hyperband", {"max_t": 9}, 60, 13),
        record("hyperband", {"max_t": 16, "reduction_factor": 2}, 40, 14),
        record("hyperband", {"max_t": 27}, 33, 15, ties=True),
        record("hyperband", {"max_t": 30, "reduction_factor": 4}, 30, 16, steps=(1, 2, 5)),
        record("hyperband", {"max_t": 100}, 20, 17, steps=(1, 4, 9)),
        record("hyperband", {"max_t": 81}, 10, 18, steps=(1, 3, 9)),
        record("hyperband", {"max_t": 1}, 5, 19),
    ]
    rungs = [
        milestones(options)
        for options in [
            {},
            {"max_t": 81, "reduction_factor": 3, "brackets": 3},
            {"max_t": 1000, "grace_period": 7, "reduction_factor": 2.5, "brackets": 4},
            {"max_t": 64, "reduction_factor": 4, "brackets": 2},
            {"max_t": 125, "reduction_factor": 5},
            {"max_t": 243, "reduction_factor": 3},
            {"max_t": 1000, "reduction_factor": 10},
            {"max_t": 3, "grace_period": 2, "brackets": 2},
        ]
    ]
    plans = [
        variants({"z": [1, 2, 3], "p": ["x", "y"]}, 1),
        variants({"z": [1, 2, 3], "p": ["x", "y"], "u": None}, 2),
        variants({"z": [1, 2, 3], "p": ["x", "y"], "u": None}, 2, constant=True),
        variants({"a": [1, 2], "b": None}, 4, [{"a": 2, "b": 2.5}, {"a": 1}, {"b": 2.5}]),
        variants({"z": [1, 2], "a": [1, 2, 3], "u": None}, 3, [{"z": 2, "a": 1, "u": 1.5}, {"z": 1}, {"u": 1.5}]),
        variants({"a": [5], "B": [1, 2], "c": [True, False]}, 2),
        variants({"u": None}, 3),
    ]
    compact = lambda value: json.dumps(value, separators=(",", ":"))
    print("{" + f'"ray":{compact(ray.__version__)}')
    for name, entries in [("schedulers", cases), ("rungs", rungs), ("plans", plans)]:
        print(f',"{name}":[')
        print(",\n".join(compact(entry) for entry in entries))
        print("]")
    print("}")


main()
