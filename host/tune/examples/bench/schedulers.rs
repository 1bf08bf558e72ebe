//! Schedulers on a table of really trained networks, and population based training on a toy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde_json::{Map, Value, json};
use trainshed_tune::Config;
use trainshed_tune::Decision;
use trainshed_tune::experiment::event::Ending;
use trainshed_tune::experiment::{Experiment, Next, Report};
use trainshed_tune::history::History;
use trainshed_tune::search::Request;

use crate::problems::Problem;
use crate::table::Table;

/// The accuracies of a configuration after each epoch.
type Curve = Box<dyn Fn(&Config) -> Vec<f64>>;

/// What is trained: a space, and how the accuracy of a configuration grows.
struct World {
    params: Vec<Value>,
    /// The best accuracy there is.
    top: f64,
    curve: Curve,
}

/// What is simulated. Without a searcher the configurations are the recorded ones.
struct Case {
    name: &'static str,
    scheduler: Value,
    search: Option<&'static str>,
    trials: usize,
    workers: usize,
}

/// What one simulated experiment cost and found.
struct Outcome {
    epochs: f64,
    regret: f64,
    at: [f64; 4],
    makespan: f64,
    full: f64,
}

/// Prints what each scheduler computes and finds.
pub(crate) fn table(seeds: u64) {
    let table = Table::new();
    let rows: Vec<Vec<usize>> = serde_json::from_str(include_str!("configurations.json")).unwrap();
    let configurations: Vec<Vec<Config>> = rows
        .iter()
        .map(|rows| rows.iter().map(|row| table.config(*row)).collect())
        .collect();
    let world = World {
        params: table.params().to_vec(),
        top: table.best(),
        curve: Box::new(move |config| table.curve(config)),
    };
    let halving = json!({"name": "hyperband", "options": {"max_t": 27}});
    let bohb = json!({"name": "bohb", "options": {"max_t": 27}});
    let asha = json!({"name": "asha", "options": {"max_t": 27, "reduction_factor": 3}});
    let rf4 = json!({"name": "asha", "options": {"max_t": 27}});
    let brackets = json!({"max_t": 27, "reduction_factor": 3, "brackets": 3});
    let iterations = json!({"time_attr": "training_iteration", "grace_period": 3});
    let median = json!({"name": "median", "options": iterations});
    let cases = [
        case("fifo", &json!("fifo"), None, 49, 4),
        case("asha, rf 3", &asha, None, 49, 4),
        case("asha, rf 4", &rf4, None, 49, 4),
        case(
            "asha, rf 3, 3 brackets",
            &json!({"name": "asha", "options": brackets}),
            None,
            49,
            4,
        ),
        case("asha, rf 3, tpe", &asha, Some("tpe"), 49, 4),
        case("hyperband, 4 at once", &halving, None, 49, 4),
        case("hyperband, 8 at once", &halving, None, 49, 8),
        case("hyperband, tpe, 1 at once", &halving, Some("tpe"), 49, 1),
        case("hyperband, auto, 4 at once", &halving, Some("auto"), 49, 4),
        case("bohb, 1 at once", &bohb, Some("bohb"), 49, 1),
        case("bohb, 4 at once", &bohb, Some("bohb"), 49, 4),
        case("bohb, 88 trials, 4 at once", &bohb, Some("bohb"), 88, 4),
        case("median, grace 3", &median, None, 49, 4),
        case("median, grace 3, tpe", &median, Some("tpe"), 49, 1),
    ];
    println!(
        "{:27} {:>7} {:>8}   regret at 100/200/400/800 epochs   {:>8} {:>5}",
        "scheduler", "epochs", "regret", "makespan", "full"
    );
    for case in &cases {
        let outcomes: Vec<Outcome> = (0..seeds)
            .map(|seed| simulate(&world, &configurations, case, seed))
            .collect();
        let median = |of: &dyn Fn(&Outcome) -> f64| {
            super::median(&outcomes.iter().map(of).collect::<Vec<f64>>())
        };
        println!(
            "{:27} {:7.0} {:8.4}   {:.4} {:.4} {:.4} {:.4}           {:8.0} {:5.0}",
            case.name,
            median(&|o| o.epochs),
            median(&|o| o.regret),
            median(&|o| o.at[0]),
            median(&|o| o.at[1]),
            median(&|o| o.at[2]),
            median(&|o| o.at[3]),
            median(&|o| o.makespan),
            median(&|o| o.full),
        );
    }
}

fn case(
    name: &'static str,
    scheduler: &Value,
    search: Option<&'static str>,
    trials: usize,
    workers: usize,
) -> Case {
    Case {
        name,
        scheduler: scheduler.clone(),
        search,
        trials,
        workers,
    }
}

/// Prints the regrets of halving schedulers on made-up curves over the practice problems: they
/// approach a value that is 1 at the optimum and 0 at the median configuration, each with its
/// own speed, and with noise. For development.
pub(crate) fn practice(seeds: u64) {
    let halving = json!({"name": "hyperband", "options": {"max_t": 27}});
    let bohb = json!({"name": "bohb", "options": {"max_t": 27}});
    let asha = json!({"name": "asha", "options": {"max_t": 27, "reduction_factor": 3}});
    let cases = [
        case("hyperband", &halving, None, 49, 4),
        case("hyperband, tpe", &halving, Some("tpe"), 49, 4),
        case("bohb", &bohb, Some("bohb"), 49, 4),
        case("bohb, 1 at once", &bohb, Some("bohb"), 49, 1),
        case("bohb, tpe", &bohb, Some("tpe"), 49, 4),
        case("bohb, 98 trials", &bohb, Some("bohb"), 98, 4),
        case("hyperband, tpe, 98 trials", &halving, Some("tpe"), 98, 4),
        case("asha, tpe", &asha, Some("tpe"), 49, 4),
    ];
    let worlds: Vec<World> = crate::problems::practice()
        .into_iter()
        .map(World::over)
        .collect();
    for case in &cases {
        let regrets = worlds.iter().map(|world| {
            let found = (0..seeds).map(|seed| simulate(world, &[], case, seed).regret);
            super::median(&found.collect::<Vec<f64>>())
        });
        let regrets: Vec<f64> = regrets.collect();
        let texts: Vec<String> = regrets
            .iter()
            .map(|regret| format!("{regret:.3}"))
            .collect();
        let mean = regrets.iter().sum::<f64>() / regrets.len() as f64;
        println!("{:26} {mean:.4}  {}", case.name, texts.join(" "));
    }
}

impl World {
    /// Curves over a problem; all chance comes from the configuration.
    fn over(problem: Problem) -> Self {
        let mut random = super::searcher("random");
        let (history, fixed) = (History::new(), Config::new());
        let values = (0..501).map(|trial| {
            let request = Request {
                seed: 5,
                trial,
                fixed: &fixed,
            };
            (problem.value)(&random.suggest(&problem.space, &history, &request))
        });
        let middle = super::median(&values.collect::<Vec<f64>>());
        let optimum = problem.optimum;
        let params = problem.space.to_json();
        let curve = move |config: &Config| {
            let reached = 1.0 - ((problem.value)(config) - optimum) / (middle - optimum);
            let mut chance = Chance::of(config);
            let (behind, speed) = (0.2 + chance.draw(), 0.3 + 0.9 * chance.draw());
            (1..=27)
                .map(|epoch| {
                    let epoch = f64::from(epoch);
                    let noise = 0.06 * (chance.draw() - 0.5) / epoch.sqrt();
                    reached.max(-1.0) - behind * (epoch.powf(-speed) - 27f64.powf(-speed)) + noise
                })
                .collect()
        };
        Self {
            params,
            top: 1.0,
            curve: Box::new(curve),
        }
    }
}

/// Numbers from 0 to 1 that depend on a configuration.
struct Chance(u64);

impl Chance {
    fn of(config: &Config) -> Self {
        let text = Value::Object(config.clone()).to_string();
        let fold =
            |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
    }

    fn draw(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / 16_777_216.0
    }
}

/// Runs an experiment on a clock that ticks in epochs.
fn simulate(world: &World, configurations: &[Vec<Config>], case: &Case, seed: u64) -> Outcome {
    let settings = json!({
        "mode": "max", "metric": "acc", "num_samples": case.trials,
        "max_concurrent_trials": case.workers, "scheduler": case.scheduler,
        "search_alg": case.search,
    });
    let Value::Object(mut settings) = settings else {
        unreachable!()
    };
    if case.search.is_none()
        && let Some(points) = usize::try_from(seed)
            .ok()
            .and_then(|seed| configurations.get(seed))
    {
        settings.insert("points_to_evaluate".into(), json!(points));
    }
    let (mut experiment, _) = Experiment::create("table", seed, &world.params, &settings).unwrap();
    let mut clock = 0u64;
    let mut heap: BinaryHeap<Reverse<(u64, u64, u64)>> = BinaryHeap::new();
    let mut sequence = 0;
    let mut best_seen = Vec::new();
    let mut best = 0.0f64;
    let mut full = 0.0;
    let mut last = 0;
    loop {
        loop {
            let trial = match experiment.next(clock).0 {
                Next::Start(start) => start.trial,
                Next::Resume { trial, .. } => trial,
                Next::Wait | Next::Finished => break,
            };
            sequence += 1;
            heap.push(Reverse((clock + 1, sequence, trial)));
        }
        let Some(Reverse((now, _, trial))) = heap.pop() else {
            break;
        };
        clock = now;
        last = now;
        let state = experiment.trial(trial).unwrap();
        let (attempt, iteration) = (state.attempt, state.iteration + 1);
        let accuracy = (world.curve)(&state.config())[usize::try_from(iteration).unwrap() - 1];
        best = best.max(accuracy);
        best_seen.push(best);
        let metrics = Map::from_iter([("acc".to_owned(), accuracy.into())]);
        let report = Report {
            trial,
            attempt,
            iteration,
            metrics,
            elapsed_ms: iteration * 1000,
        };
        let (decision, _) = experiment.report(report, clock).unwrap();
        if iteration == 27 {
            full += 1.0;
        }
        match decision {
            Decision::Continue if iteration < 27 => {
                sequence += 1;
                heap.push(Reverse((clock + 1, sequence, trial)));
            }
            Decision::Continue => {
                experiment
                    .end(
                        trial,
                        attempt,
                        Ending::Completed {
                            returned: Value::Null,
                        },
                        clock,
                    )
                    .unwrap();
            }
            Decision::Stop => {
                experiment
                    .end(trial, attempt, Ending::Stopped, clock)
                    .unwrap();
            }
            Decision::Pause | Decision::Restart => {}
        }
    }
    assert!(experiment.is_finished(), "an experiment came to a halt");
    let top = world.top;
    let at = |epochs: usize| top - best_seen[epochs.min(best_seen.len()) - 1];
    Outcome {
        epochs: best_seen.len() as f64,
        regret: top - best,
        at: [at(100), at(200), at(400), at(800)],
        makespan: last as f64,
        full,
    }
}

/// `pbt` whose numbers may leave their ranges.
const FREE_PBT: &str = "pbt, out of range too";

/// The toy of the paper on population based training: 1.2 - x^2 - y^2, climbed on a surrogate.
pub(crate) fn population(seeds: u64) {
    println!(
        "population based training, 200 steps, interval 10 (median of {seeds} seeds; 1.2 is the maximum)"
    );
    let [paper, ..] = toys();
    for scheduler in ["fifo", "pbt", FREE_PBT, "pb2"] {
        for size in [4, 8, 16] {
            let reached = |population: Population| {
                let found: Vec<f64> = (0..seeds)
                    .map(|seed| climb(&paper, scheduler, size, population, seed))
                    .collect();
                super::median(&found)
            };
            println!(
                "  {scheduler:22} population {size:2}: {:.4} as Ray's, {:.4} as it comes",
                reached(Population::Rays),
                reached(Population::Own)
            );
        }
    }
}

/// How a population begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Population {
    /// As those did that Ray's rules were measured with.
    Rays,
    /// By the searcher that goes with the scheduler.
    Own,
}

/// Something to train, whose state is two numbers.
struct Toy {
    name: &'static str,
    /// The state after a step, given the state, the configuration and the time from 0 to 1.
    advance: fn([f64; 2], [f64; 2], f64) -> [f64; 2],
    value: fn([f64; 2]) -> f64,
}

/// How much is left of a number after a step, if some setting is best for it.
fn near(h: f64, best: f64, width: f64) -> f64 {
    1.0 - 0.04 * (-(h - best) * (h - best) / width).exp()
}

/// How small both numbers are, in orders of magnitude.
fn smallness(x: [f64; 2]) -> f64 {
    -(x[0] * x[0] + x[1] * x[1]).ln()
}

/// That of the paper, and others for development.
fn toys() -> [Toy; 5] {
    [
        Toy {
            name: "paper",
            advance: |x, h, _| [x[0] * (1.0 - 0.02 * h[0]), x[1] * (1.0 - 0.02 * h[1])],
            value: |x| 1.2 - x[0] * x[0] - x[1] * x[1],
        },
        Toy {
            name: "what is best moves",
            advance: |x, h, time| {
                let (first, second) = (0.1 + 0.8 * time, 0.9 - 0.8 * time);
                [
                    x[0] * near(h[0], first, 0.02),
                    x[1] * near(h[1], second, 0.02),
                ]
            },
            value: smallness,
        },
        Toy {
            name: "a rate that has to fall",
            advance: |x, h, time| {
                let (rate, best) = (4.0 * h[0], 4.0 - 3.0 * time);
                let harm = if rate > best + 1.5 { 0.02 } else { 0.0 };
                let other = 1.0 - 0.01 * (1.0 - (h[1] - 0.5).abs());
                [x[0] * (near(rate, best, 0.5) + harm), x[1] * other]
            },
            value: |x| smallness([x[0], 0.3 * x[1]]),
        },
        Toy {
            name: "both ends are best for a while",
            advance: |x, h, time| {
                let wanted = if time < 0.5 { h[0] } else { 1.0 - h[0] };
                let other = h[1] * (1.0 - 0.5 * h[0]);
                [x[0] * (1.0 - 0.03 * wanted), x[1] * (1.0 - 0.03 * other)]
            },
            value: smallness,
        },
        Toy {
            name: "something within is best",
            advance: |x, h, _| [x[0] * near(h[0], 0.35, 0.01), x[1] * near(h[1], 0.6, 0.01)],
            value: smallness,
        },
    ]
}

/// Prints what populations reach on all toys: from Ray's populations and from our own.
pub(crate) fn population_practice(seeds: u64) {
    for scheduler in ["pbt", "pb2"] {
        for toy in toys() {
            let mut line = format!("{scheduler} {:31}", toy.name);
            for size in [4, 8, 16] {
                for population in [Population::Rays, Population::Own] {
                    let found =
                        (0..seeds).map(|seed| climb(&toy, scheduler, size, population, seed));
                    line += &format!(" {:7.4}", super::median(&found.collect::<Vec<f64>>()));
                }
            }
            println!("{line}");
        }
    }
}

fn climb(toy: &Toy, scheduler: &str, size: usize, population: Population, seed: u64) -> f64 {
    let space = [
        json!({"name": "h0", "type": "uniform", "min": 0.0, "max": 1.0}),
        json!({"name": "h1", "type": "uniform", "min": 0.0, "max": 1.0}),
    ];
    let mut options = json!({"time_attr": "training_iteration"});
    if scheduler != "fifo" {
        options["perturbation_interval"] = 10.into();
    }
    if scheduler == FREE_PBT {
        options["keep_in_range"] = false.into();
    }
    let scheduler = scheduler.split(',').next();
    let settings = json!({
        "mode": "max", "metric": "q", "num_samples": size,
        "scheduler": {"name": scheduler, "options": options},
    });
    let Value::Object(mut settings) = settings else {
        unreachable!()
    };
    if population == Population::Rays {
        let populations: Vec<Vec<[f64; 2]>> =
            serde_json::from_str(include_str!("populations.json")).unwrap();
        let points: Vec<Value> = populations[usize::try_from(seed).unwrap()][..size]
            .iter()
            .map(|[h0, h1]| json!({"h0": h0, "h1": h1}))
            .collect();
        settings.insert("points_to_evaluate".into(), points.into());
    }
    let (mut experiment, _) = Experiment::create("toy", seed, &space, &settings).unwrap();
    // Checkpoints are the two numbers as text.
    let mut at: Vec<Option<(u64, [f64; 2])>> = vec![None; size];
    let mut best = f64::NEG_INFINITY;
    loop {
        loop {
            match experiment.next(0).0 {
                Next::Start(start) => {
                    let theta = start.checkpoint.map_or([0.9, 0.9], |(text, _)| {
                        let (x, y) = text.split_once(' ').unwrap();
                        [x.parse().unwrap(), y.parse().unwrap()]
                    });
                    at[usize::try_from(start.trial).unwrap()] = Some((start.attempt, theta));
                }
                Next::Resume { .. } => {}
                Next::Wait | Next::Finished => break,
            }
        }
        if experiment.is_finished() {
            break;
        }
        for trial in 0..size as u64 {
            let Some((attempt, mut theta)) = at[usize::try_from(trial).unwrap()] else {
                continue;
            };
            let state = experiment.trial(trial).unwrap();
            let iteration = state.iteration + 1;
            let h = ["h0", "h1"].map(|name| state.config()[name].as_f64().unwrap());
            theta = (toy.advance)(theta, h, iteration as f64 / 200.0);
            let text = format!("{} {}", theta[0], theta[1]);
            experiment
                .checkpoint(trial, attempt, iteration, &text)
                .unwrap();
            let metrics = Map::from_iter([("q".to_owned(), (toy.value)(theta).into())]);
            let report = Report {
                trial,
                attempt,
                iteration,
                metrics,
                elapsed_ms: iteration,
            };
            let (decision, _) = experiment.report(report, 0).unwrap();
            at[usize::try_from(trial).unwrap()] = Some((attempt, theta));
            if decision == Decision::Restart {
                at[usize::try_from(trial).unwrap()] = None;
            } else if iteration >= 200 {
                best = best.max((toy.value)(theta));
                experiment
                    .end(
                        trial,
                        attempt,
                        Ending::Completed {
                            returned: Value::Null,
                        },
                        0,
                    )
                    .unwrap();
                at[usize::try_from(trial).unwrap()] = None;
            }
        }
    }
    best
}
