//! Quality and cost of the searchers, beside the peers' recorded results.
//!
//! `cargo run --release -p trainshed-tune --example bench -- search public ../shared/tuning/results`
#![expect(clippy::print_stdout, reason = "a program that prints tables")]
#![expect(clippy::unwrap_used, reason = "a benchmark may end where it fails")]

mod problems;
mod schedulers;

use std::path::{Path, PathBuf};

use problems::Problem;
use serde_json::Value;
use trainshed_tune::Config;
use trainshed_tune::history::History;
use trainshed_tune::search::{Request, Searcher};

const SEEDS: u64 = 24;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default: &str| {
        arguments
            .get(index)
            .cloned()
            .unwrap_or_else(|| default.to_owned())
    };
    let shared = PathBuf::from(argument(1, "../shared/tuning"));
    let table = schedulers::Table::read(&shared.join("tabular_digits_mlp.json"));
    let mut problems = match argument(0, "public").as_str() {
        "schedulers" => {
            let table =
                table.expect("tabular_digits_mlp.json is read from the folder that is given");
            let configurations = std::fs::read_to_string(argument(2, "configurations.json")).ok();
            let configurations: Vec<Value> = configurations
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default();
            schedulers::table(&table, &configurations, 49, SEEDS);
            schedulers::population(40);
            return;
        }
        "cost" => return cost(),
        "practice" => problems::practice(),
        _ => problems::public(),
    };
    if argument(0, "public") == "public" {
        problems.extend(table.map(problems::of_table));
    }
    let results = shared.join("results");
    let searchers = argument(2, "tpe,hyperoptsearch,gp,cmaes,auto");
    let trials: usize = argument(3, "100")
        .parse()
        .expect("the fourth argument is a number of trials");
    let outstanding: usize = argument(4, "1")
        .parse()
        .expect("the fifth argument is a number of trials");
    let peers = [
        "optuna_tpe",
        "hyperopt_tpe",
        "optuna_cmaes",
        "optuna_gp50",
        "optuna_gp",
        "optuna_tpe_par4",
        "random",
    ];
    for problem in &problems {
        println!("{}", problem.name);
        let recorded: Vec<(&str, Vec<Vec<f64>>)> = peers
            .iter()
            .filter_map(|peer| Some((*peer, curves_of(&results, problem.name, peer)?)))
            .collect();
        for (peer, curves) in &recorded {
            println!("    {peer:16} {}", summary(curves));
        }
        for name in searchers.split(',') {
            let started = std::time::Instant::now();
            let curves: Vec<Vec<f64>> = (0..SEEDS)
                .map(|seed| run(problem, name, seed, trials, outstanding))
                .collect();
            let per_trial = started.elapsed().as_secs_f64() * 1e3 / (SEEDS as f64 * trials as f64);
            let against: Vec<String> = recorded
                .iter()
                .map(|(peer, theirs)| {
                    let last = theirs[0].len().min(trials) - 1;
                    let p = mann_whitney(&column(&curves, last), &column(theirs, last));
                    format!(
                        "{peer} {}",
                        mark(
                            median(&column(&curves, last)),
                            median(&column(theirs, last)),
                            p
                        )
                    )
                })
                .collect();
            println!(
                "  > {name:16} {}  {per_trial:.3} ms | {}",
                summary(&curves),
                against.join(" ")
            );
        }
    }
}

/// The time of one suggestion with some trials behind it: the least of several means.
fn cost() {
    let problems = problems::public();
    println!("milliseconds per suggestion with 100, 300 and 1000 trials behind it");
    for problem in problems
        .iter()
        .filter(|problem| ["hartmann6", "mixed_hpo7"].contains(&problem.name))
    {
        for name in ["random", "sobol", "tpe", "hyperoptsearch", "gp", "cmaes"] {
            let mut searcher =
                Searcher::parse(name, &serde_json::Map::new(), "").expect("a known name");
            let mut random =
                Searcher::parse("random", &serde_json::Map::new(), "").expect("a known name");
            let mut history = History::new();
            let fixed = Config::new();
            let mut line = String::new();
            for trial in 0..1040 {
                let request = Request {
                    seed: 1,
                    trial,
                    fixed: &fixed,
                };
                let config = random.suggest(&problem.space, &history, &request);
                history.begin(trial, problem.space.encode(&config));
                history.end(trial, Some((problem.value)(&config)), 1, true);
                if [100, 300, 1000].contains(&(trial + 1)) {
                    // Each suggestion sees one more trial; the best block of 20 counts.
                    let mut more = history.clone();
                    let count = if name == "gp" { 40 } else { 100 };
                    searcher.suggest(
                        &problem.space,
                        &more,
                        &Request {
                            seed: 1,
                            trial,
                            fixed: &fixed,
                        },
                    );
                    let mut spent = f64::INFINITY;
                    let mut block = 0.0;
                    for step in 0..count {
                        let trial = trial + 1 + step;
                        let request = Request {
                            seed: 1,
                            trial,
                            fixed: &fixed,
                        };
                        let started = std::time::Instant::now();
                        let config = searcher.suggest(&problem.space, &more, &request);
                        block += started.elapsed().as_secs_f64();
                        more.begin(trial, problem.space.encode(&config));
                        more.end(trial, Some((problem.value)(&config)), 1, true);
                        if step % 20 == 19 {
                            spent = f64::min(spent, block / 20.0);
                            block = 0.0;
                        }
                    }
                    line += &format!(" {:9.4}", spent * 1e3);
                    searcher =
                        Searcher::parse(name, &serde_json::Map::new(), "").expect("a known name");
                }
            }
            println!("{:12} {name:16}{line}", problem.name);
        }
    }
}

fn run(problem: &Problem, name: &str, seed: u64, trials: usize, outstanding: usize) -> Vec<f64> {
    let mut searcher = Searcher::parse(name, &serde_json::Map::new(), "")
        .expect("a benchmark asks for what exists");
    let mut history = History::new();
    let fixed = Config::new();
    let mut best = f64::INFINITY;
    let mut curve = Vec::new();
    let mut open: std::collections::VecDeque<(u64, f64)> = Default::default();
    for trial in 0..trials as u64 {
        let request = Request {
            seed,
            trial,
            fixed: &fixed,
        };
        let config = searcher.suggest(&problem.space, &history, &request);
        history.begin(trial, problem.space.encode(&config));
        open.push_back((trial, (problem.value)(&config)));
        while open.len() >= outstanding || (trial + 1 == trials as u64 && !open.is_empty()) {
            let (told, score) = open.pop_front().expect("a benchmark asks for what exists");
            history.end(told, Some(score), 1, true);
            best = best.min(score - problem.optimum);
            curve.push(best.max(0.0));
        }
    }
    curve
}

fn curves_of(results: &Path, problem: &str, method: &str) -> Option<Vec<Vec<f64>>> {
    let text = std::fs::read_to_string(results.join(format!("{problem}__{method}.json"))).ok()?;
    let file: Value = serde_json::from_str(&text).ok()?;
    let number = |value: &Value| value.as_f64();
    let curve = |curve: &Value| {
        curve
            .as_array()?
            .iter()
            .map(number)
            .collect::<Option<Vec<f64>>>()
    };
    let curves: Vec<Vec<f64>> = file["curves"]
        .as_array()?
        .iter()
        .filter_map(curve)
        .collect();
    (!curves.is_empty()).then_some(curves)
}

fn column(curves: &[Vec<f64>], at: usize) -> Vec<f64> {
    curves
        .iter()
        .filter_map(|curve| curve.get(at).copied())
        .collect()
}

fn summary(curves: &[Vec<f64>]) -> String {
    [24, 49, 99]
        .iter()
        .filter(|at| curves[0].len() > **at)
        .map(|at| format!("{:>9.4}", Short(median(&column(curves, *at)))))
        .collect::<Vec<_>>()
        .join(" ")
}

struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 != 0.0 && self.0 < 1e-3 {
            write!(formatter, "{:9.2e}", self.0)
        } else {
            write!(formatter, "{:9.4}", self.0)
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        0.5 * (values[middle - 1] + values[middle])
    }
}

fn mark(ours: f64, theirs: f64, p: f64) -> String {
    let sign = if ours <= theirs { "win" } else { "LOSS" };
    format!(
        "{sign}{:.2}{}",
        ours / theirs,
        if p < 0.05 { "*" } else { "" }
    )
}

/// The two-sided p of Mann and Whitney's test, by the normal approximation with ties.
fn mann_whitney(left: &[f64], right: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = left
        .iter()
        .map(|x| (*x, true))
        .chain(right.iter().map(|x| (*x, false)))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (n, m) = (left.len() as f64, right.len() as f64);
    let mut rank_sum = 0.0;
    let mut ties = 0.0;
    let mut start = 0;
    while start < all.len() {
        let end = start
            + all[start..]
                .iter()
                .take_while(|x| x.0 == all[start].0)
                .count();
        let rank = (start + end + 1) as f64 / 2.0;
        let count = (end - start) as f64;
        ties += count * count * count - count;
        rank_sum += rank * all[start..end].iter().filter(|x| x.1).count() as f64;
        start = end;
    }
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - n * m / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    libm::erfc(z / std::f64::consts::SQRT_2)
}
