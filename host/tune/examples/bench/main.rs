//! Quality and cost of the searchers and schedulers, beside the peers' recorded results.
//!
//! ```sh
//! cargo run --release -p trainshed-tune --example bench -- search
//! ```
//!
//! - `search`: the public problems, one line each, with what the peers' recorded runs reached
//!   (`peers.json`: ray 2.60.0, optuna 5.0.0 and hyperopt 0.3.0, same protocol).
//! - `compare public|practice SEARCHERS TRIALS OUTSTANDING`: medians after 25, 50 and 100 trials.
//! - `schedulers practice`: halving on made-up curves over the practice problems.
//! - `schedulers`: epochs and regret on a table of really trained networks (`digits_mlp.json`),
//!   with the 49 configurations of `configurations.json` for each of 24 seeds; and population
//!   based training on a toy, which `population` is alone; `population practice` has others.
//! - `cost`: milliseconds per suggestion; `many`: the same with many parameters.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]
#![expect(clippy::unwrap_used, reason = "a benchmark may end where it fails")]

mod problems;
mod schedulers;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use problems::Problem;
use serde_json::Map;
use trainshed_tune::Config;
use trainshed_tune::history::History;
use trainshed_tune::search::{Request, Searcher};

const SEEDS: u64 = 24;
/// A difference is called significant below this probability of chance.
const SIGNIFICANT: f64 = 0.05;

/// Regrets of a peer by problem and name; for each seed, after 25, 50 and 100 trials.
type Peers = BTreeMap<String, Vec<Vec<f64>>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |index: usize, default: &'static str| arguments.get(index).map_or(default, String::as_str);
    match argument(0, "search") {
        "schedulers" if argument(1, "public") == "practice" => schedulers::practice(SEEDS),
        "schedulers" => {
            schedulers::table(SEEDS);
            schedulers::population(40);
        }
        "population" if argument(1, "") == "practice" => schedulers::population_practice(40),
        "population" => schedulers::population(40),
        "cost" => {
            cost();
            many();
        }
        "many" => many(),
        "compare" => {
            let problems = match argument(1, "public") {
                "practice" => problems::practice(),
                _ => public(),
            };
            let searchers: Vec<&str> = argument(2, "random,tpe,hyperoptsearch,gp,cmaes,auto")
                .split(',')
                .collect();
            let trials = argument(3, "100").parse().unwrap();
            let outstanding = argument(4, "1").parse().unwrap();
            compare(&problems, &searchers, trials, outstanding);
        }
        _ => search(),
    }
}

fn public() -> Vec<Problem> {
    let mut problems = problems::public();
    problems.push(problems::of_table(table::Table::new()));
    problems
}

fn peers() -> Peers {
    serde_json::from_str(include_str!("peers.json")).unwrap()
}

/// One comparison of `search`: ours, with how many outstanding, against the best of some peers.
struct Duel {
    title: &'static str,
    ours: &'static str,
    trials: usize,
    outstanding: usize,
    theirs: &'static [&'static str],
    /// Ours may be so much larger.
    factor: f64,
}

const DUELS: [Duel; 5] = [
    Duel {
        title: "`tpe`, Optuna TPE",
        ours: "tpe",
        trials: 100,
        outstanding: 1,
        theirs: &["optuna_tpe"],
        factor: 1.0,
    },
    Duel {
        title: "`hyperoptsearch`, HyperOpt",
        ours: "hyperoptsearch",
        trials: 100,
        outstanding: 1,
        theirs: &["hyperopt_tpe"],
        factor: 1.0,
    },
    Duel {
        title: "`gp`, Optuna GP (50 trials, 1.5x)",
        ours: "gp",
        trials: 50,
        outstanding: 1,
        theirs: &["optuna_gp50", "optuna_gp"],
        factor: 1.5,
    },
    Duel {
        title: "`auto`, the better of Optuna TPE and CMA-ES",
        ours: "auto",
        trials: 100,
        outstanding: 1,
        theirs: &["optuna_tpe", "optuna_cmaes"],
        factor: 1.0,
    },
    Duel {
        title: "`tpe`, Optuna TPE (4 outstanding)",
        ours: "tpe",
        trials: 100,
        outstanding: 4,
        theirs: &["optuna_tpe_par4"],
        factor: 1.0,
    },
];

/// Prints the median regrets, ours and the peers', as a table; the last line counts.
fn search() {
    let peers = peers();
    let titles: Vec<&str> = DUELS.iter().map(|duel| duel.title).collect();
    println!("| problem | {} |", titles.join(" | "));
    println!("|---{}|", "|---".repeat(DUELS.len()));
    let mut reached = [0; DUELS.len()];
    let problems = public();
    for problem in &problems {
        let mut line = format!("| {} |", problem.name);
        for (duel, reached) in DUELS.iter().zip(&mut reached) {
            let ours = finals(problem, duel);
            let at = if duel.trials == 50 { 1 } else { 2 };
            let theirs = duel
                .theirs
                .iter()
                .filter_map(|peer| peers.get(&format!("{}/{peer}", problem.name)))
                .map(|seeds| column(seeds, at))
                .min_by(|left, right| median(left).total_cmp(&median(right)))
                .unwrap();
            let better = median(&ours) <= duel.factor * median(&theirs);
            *reached += i32::from(better);
            let significant = mann_whitney(&ours, &theirs) < SIGNIFICANT;
            let mark = match (significant, median(&ours) < median(&theirs)) {
                (true, true) => " +",
                (true, false) => " −",
                _ => "",
            };
            let count = match theirs.len() {
                24 => String::new(),
                count => format!(" (n={count})"),
            };
            line += &format!(
                " {}, {}{count}{mark} |",
                Short(median(&ours)),
                Short(median(&theirs))
            );
        }
        println!("{line}");
    }
    let counts = reached.map(|count| format!("{count} of {}", problems.len()));
    println!("| at most theirs | {} |", counts.join(" | "));
}

fn finals(problem: &Problem, duel: &Duel) -> Vec<f64> {
    (0..SEEDS)
        .map(|seed| {
            let curve = run(problem, duel.ours, seed, duel.trials, duel.outstanding);
            recorded(curve[duel.trials - 1])
        })
        .collect()
}

/// Six digits, as the peers' regrets were written down, so that equal ones are equal.
fn recorded(regret: f64) -> f64 {
    format!("{regret:.5e}").parse().unwrap()
}

/// Prints medians after 25, 50 and 100 trials, and the time of a trial.
fn compare(problems: &[Problem], searchers: &[&str], trials: usize, outstanding: usize) {
    let peers = peers();
    for problem in problems {
        println!("{}", problem.name);
        let own = peers
            .iter()
            .filter_map(|(name, seeds)| Some((name.strip_prefix(problem.name)?, seeds)));
        for (name, seeds) in own {
            let places = (0..seeds[0].len()).map(|at| median(&column(seeds, at)));
            println!("    {:16} {}", name.trim_start_matches('/'), listed(places));
        }
        for name in searchers {
            let started = Instant::now();
            let curves: Vec<Vec<f64>> = (0..SEEDS)
                .map(|seed| run(problem, name, seed, trials, outstanding))
                .collect();
            let spent = started.elapsed().as_secs_f64() * 1e3 / (SEEDS as f64 * trials as f64);
            let places = [24, 49, 99].into_iter().filter(|at| *at < trials);
            let medians = places.map(|at| median(&column(&curves, at)));
            println!("  > {name:16} {}  {spent:.3} ms", listed(medians));
        }
    }
}

fn listed(values: impl Iterator<Item = f64>) -> String {
    let all: Vec<String> = values
        .map(|value| format!("{:>9}", Short(value).to_string()))
        .collect();
    all.join(" ")
}

/// The time of one suggestion with some trials behind it: the least of several means.
fn cost() {
    let problems = problems::public();
    println!("milliseconds per suggestion with 100, 300 and 1000 trials behind it");
    let of_interest = |problem: &&Problem| ["hartmann6", "mixed_hpo7"].contains(&problem.name);
    for problem in problems.iter().filter(of_interest) {
        for name in ["random", "sobol", "tpe", "hyperoptsearch", "gp", "cmaes"] {
            let times = [100, 300, 1000].map(|trials| time_of(problem, name, trials));
            let texts = times.map(|time| format!("{time:9.4}"));
            println!("{:12} {name:16}{}", problem.name, texts.join(" "));
        }
    }
}

/// The slowest suggestions for many parameters, each behind a result more.
fn many() {
    const LAST: u64 = 40;
    println!("the slowest of the last suggestions, milliseconds");
    for (name, parameters, trials) in [
        ("gp", 20, 300),
        ("gp", 64, 300),
        ("gp", 256, 300),
        ("cmaes", 64, 300),
        ("cmaes", 256, 300),
        ("tpe", 256, 300),
    ] {
        let problem = problems::bowl(parameters);
        let (mut searcher, mut random) = (searcher(name), searcher("random"));
        let fixed = Config::new();
        let mut history = History::new();
        let (mut slowest, mut all) = (0.0_f64, 0.0);

        for trial in 0..trials {
            let request = Request {
                seed: 1,
                trial,
                fixed: &fixed,
            };
            let is_last = trial + LAST >= trials;
            let asked = if is_last { &mut searcher } else { &mut random };
            let started = Instant::now();
            let config = asked.suggest(&problem.space, &history, &request);
            let spent = started.elapsed().as_secs_f64() * 1e3;
            // The first takes in all that came before.
            if trial + LAST > trials {
                slowest = slowest.max(spent);
                all += spent / (LAST - 1) as f64;
            }
            history.begin(trial, problem.space.encode(&config));
            history.end(trial, Some((problem.value)(&config)), 1, true);
        }
        println!(
            "{name:8} {parameters:4} parameters, {trials} trials: {slowest:9.3}, mean {all:9.3}"
        );
    }
}

fn searcher(name: &str) -> Searcher {
    Searcher::parse(name, &Map::new(), "").unwrap()
}

/// Milliseconds per suggestion after `trials` random trials; each suggestion is one trial more.
fn time_of(problem: &Problem, name: &str, trials: u64) -> f64 {
    const BLOCK: u64 = 20;
    let (mut random, mut searcher) = (searcher("random"), searcher(name));
    let fixed = Config::new();
    let mut history = History::new();
    let mut learn = |searcher: &mut Searcher, trial: u64| {
        let request = Request {
            seed: 1,
            trial,
            fixed: &fixed,
        };
        let started = Instant::now();
        let config = searcher.suggest(&problem.space, &history, &request);
        let spent = started.elapsed().as_secs_f64();
        history.begin(trial, problem.space.encode(&config));
        history.end(trial, Some((problem.value)(&config)), 1, true);
        spent
    };
    for trial in 0..trials {
        learn(&mut random, trial);
    }
    learn(&mut searcher, trials);
    let blocks = (0..3).map(|block| {
        let first = trials + 1 + block * BLOCK;
        let spent: f64 = (first..first + BLOCK)
            .map(|trial| learn(&mut searcher, trial))
            .sum();
        spent / BLOCK as f64 * 1e3
    });
    blocks.fold(f64::INFINITY, f64::min)
}

/// The regret after each trial; results are told oldest first.
fn run(problem: &Problem, name: &str, seed: u64, trials: usize, outstanding: usize) -> Vec<f64> {
    let mut searcher = searcher(name);
    let mut history = History::new();
    let fixed = Config::new();
    let mut best = f64::INFINITY;
    let mut curve = Vec::new();
    let mut open: VecDeque<(u64, f64)> = VecDeque::new();
    for trial in 0..trials as u64 {
        let request = Request {
            seed,
            trial,
            fixed: &fixed,
        };
        let config = searcher.suggest(&problem.space, &history, &request);
        history.begin(trial, problem.space.encode(&config));
        open.push_back((trial, (problem.value)(&config)));
        let is_last = trial + 1 == trials as u64;
        while open.len() >= outstanding || (is_last && !open.is_empty()) {
            let (told, score) = open.pop_front().unwrap();
            history.end(told, Some(score), 1, true);
            best = best.min(score - problem.optimum);
            curve.push(best.max(0.0));
        }
    }
    curve
}

fn column(curves: &[Vec<f64>], at: usize) -> Vec<f64> {
    curves
        .iter()
        .filter_map(|curve| curve.get(at).copied())
        .collect()
}

/// A number with three digits.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(value) = self;
        match value.abs() {
            0.0 => write!(formatter, "0"),
            size if size < 1e-3 => write!(formatter, "{value:.1e}"),
            size if size < 1.0 => write!(formatter, "{value:.4}"),
            size if size < 100.0 => write!(formatter, "{value:.2}"),
            _ => write!(formatter, "{value:.0}"),
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => 0.5 * (values[middle - 1] + values[middle]),
    }
}

/// The two-sided p of Mann and Whitney's test, by the normal approximation with ties.
fn mann_whitney(left: &[f64], right: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = left
        .iter()
        .map(|value| (*value, true))
        .chain(right.iter().map(|value| (*value, false)))
        .collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (n, m) = (left.len() as f64, right.len() as f64);
    let (mut rank_sum, mut ties) = (0.0, 0.0);
    let mut before = 0.0;
    for equal in all.chunk_by(|one, other| one.0 == other.0) {
        let count = equal.len() as f64;
        let rank = before + (count + 1.0) / 2.0;
        before += count;
        ties += count * count * count - count;
        rank_sum += rank * equal.iter().filter(|entry| entry.1).count() as f64;
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
