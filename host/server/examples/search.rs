//! Searchers over HTTP: `cargo xtask bench search PROBLEMS [--seeds N] [--searchers A,B]`.
//!
//! Every suggestion is asked for, and every value told, by the API of a server, which writes
//! each of them down before it answers. The same search is done beside it by the library alone,
//! as `host/tune/examples/bench` does: both must suggest the same. The server is this process,
//! the client another one; CPU time is the server's alone.
//!
//! PROBLEMS is a file with a list of `{"name", "mode", "params", "optimum", "check"}`: what is
//! searched, and values that the functions of these names, which are part of this program, must
//! have.
#![expect(clippy::print_stdout, reason = "that is what it is for")]
#![expect(clippy::unwrap_used, reason = "a benchmark may end where it fails")]

#[path = "../tests/lab/mod.rs"]
#[expect(dead_code, reason = "no task of an agent is needed")]
mod lab;
#[path = "../../tune/examples/bench/problems.rs"]
#[expect(dead_code, reason = "the other problems are for development")]
mod problems;
#[path = "../../tune/examples/bench/table.rs"]
#[expect(dead_code, reason = "schedulers need more of it")]
mod table;

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Map, Value, json};
use trainshed_core::view::{Asked, NewExperiment, TaskView, ToldTrial};
use trainshed_engine::Database;
use trainshed_tune::history::History;
use trainshed_tune::search::{Request, Searcher};
use trainshed_tune::{Config, Space};

use lab::Lab;
use problems::Problem;

/// Of a value that a file has with fewer digits.
const TOLERANCE: f64 = 1e-9;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let [first, url, key, path, searcher, seeds, trials, outstanding] = &*arguments
        && first == "client"
    {
        let searched = Searched {
            searcher: searcher.clone(),
            seeds: seeds.parse().unwrap(),
            trials: trials.parse().unwrap(),
            outstanding: outstanding.parse().unwrap(),
        };
        // It chooses the cryptography, without which no client can be made.
        drop(trainshed_wire::Client::new(url, key));
        let server = Api {
            http: reqwest::Client::new(),
            url: url.clone(),
            key: key.clone(),
        };
        runtime.block_on(search_all(&server, path, &searched));
        return;
    }
    let option = |name: &str, default: &str| {
        let place = arguments.iter().position(|argument| argument == name);
        let given = place.and_then(|place| arguments.get(place + 1));
        given.map_or_else(|| default.to_owned(), String::clone)
    };
    let problems = arguments.first().expect("the first argument is a file");
    let seeds = option("--seeds", "24");
    let searchers = option("--searchers", "tpe,hyperoptsearch,gp,cmaes,auto,tpe:4");
    runtime.block_on(measure(problems, &seeds, &searchers));
}

/// What one line of the table is about.
struct Searched {
    searcher: String,
    seeds: u64,
    trials: u64,
    outstanding: usize,
}

async fn measure(path: &str, seeds: &str, searchers: &str) {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::start(folder.path(), Database::Folder).await;
    println!("{seeds} seeds");
    println!(
        "| searcher | problem | median regret over HTTP | by the library | suggestions that differ | wall | server CPU |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    for searcher in searchers.split(',') {
        let (name, outstanding) = searcher.split_once(':').unwrap_or((searcher, "1"));
        let trials = if name == "gp" { "50" } else { "100" };
        let client = Command::new(std::env::current_exe().unwrap())
            .args(["client", &lab.url, &lab.key, path])
            .args([name, seeds, trials, outstanding])
            .stdin(Stdio::null())
            .spawn();
        let mut client = client.unwrap();
        let before = cpu_seconds();
        let ended = tokio::task::spawn_blocking(move || client.wait()).await;
        assert!(ended.unwrap().unwrap().success(), "the client has failed");
        let spent = cpu_seconds() - before;
        let problems = read(path).len() as f64;
        let count = problems * seeds.parse::<f64>().unwrap() * trials.parse::<f64>().unwrap();
        println!(
            "| `{searcher}` | all | | | | | {:.2} ms |",
            spent / count * 1e3
        );
    }
    lab.close().await;
}

/// Searches every problem of the file, and prints a line for each.
async fn search_all(server: &Api, path: &str, searched: &Searched) {
    for entry in read(path) {
        let problem = known(&entry);
        let params = entry["params"].as_array().unwrap();
        let (mut ours, mut library) = (Vec::new(), Vec::new());
        let (mut differ, mut wall) = (0, 0.0);
        for seed in 0..searched.seeds {
            let (configs, spent) = over_http(server, &problem, params, seed, searched).await;
            let expected = by_library(&problem, params, seed, searched);
            differ += configs
                .iter()
                .zip(&expected)
                .filter(|(found, expected)| found != expected)
                .count();
            assert_eq!(configs.len(), expected.len());
            wall += spent;
            ours.push(regret(&problem, &configs));
            library.push(regret(&problem, &expected));
        }
        let count = (searched.seeds * searched.trials) as f64;
        println!(
            "| `{}{}` | {} | {:.3e} | {:.3e} | {differ} of {count} | {:.2} ms | |",
            searched.searcher,
            match searched.outstanding {
                1 => String::new(),
                many => format!(":{many}"),
            },
            problem.name,
            median(&mut ours),
            median(&mut library),
            wall / count * 1e3,
        );
    }
}

/// The problems of the file.
fn read(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the file of problems can be read");
    serde_json::from_str(&text).expect("the file of problems is a list in JSON")
}

/// The function of a problem of the file, which has the values that the file says.
fn known(entry: &Value) -> Problem {
    let name = entry["name"].as_str().unwrap();
    let mut all = problems::public();
    all.push(problems::of_table(table::Table::new()));
    let problem = all.into_iter().find(|problem| problem.name == name);
    let problem = problem.unwrap_or_else(|| panic!("there is no function for `{name}`"));
    for check in entry["check"].as_array().unwrap() {
        let config: Config = serde_json::from_value(check["config"].clone()).unwrap();
        let (found, expected) = ((problem.value)(&config), check["value"].as_f64().unwrap());
        let bound = TOLERANCE * expected.abs().max(1.0);
        assert!(
            (found - expected).abs() <= bound,
            "`{name}` is {found} at {}, but the file says {expected}",
            json!(config)
        );
    }
    problem
}

/// The configurations that the server suggests, in order, and the seconds that it took; values
/// are told oldest first.
async fn over_http(
    server: &Api,
    problem: &Problem,
    params: &[Value],
    seed: u64,
    searched: &Searched,
) -> (Vec<Config>, f64) {
    let config = json!({
        "mode": "min",
        "metric": "value",
        "num_samples": searched.trials,
        "max_concurrent_trials": searched.outstanding,
        "search_alg": {"name": searched.searcher},
    });
    let name = format!(
        "{} {} {} {seed}",
        problem.name, searched.searcher, searched.outstanding
    );
    let new = NewExperiment {
        name,
        description: None,
        project: None,
        tags: Vec::new(),
        hyperparameters: params.to_vec(),
        tune_config: serde_json::from_value(config).unwrap(),
        seed: Some(seed),
        base_task: None,
    };
    let made: TaskView = server.post("/experiments", &json!(new)).await;
    let path = format!("/experiments/{}", made.id);
    let mut configs = Vec::new();
    let mut open = VecDeque::new();
    let began = Instant::now();
    for trial in 0..searched.trials {
        let asked: Asked = server.post(&format!("{path}/ask"), &json!({})).await;
        let asked = asked.trial.expect("there is another trial");
        assert_eq!(asked.number, trial);
        let value = (problem.value)(&asked.config);
        configs.push(asked.config);
        open.push_back((asked.number, asked.attempt, value));
        let is_last = trial + 1 == searched.trials;
        while open.len() >= searched.outstanding || (is_last && !open.is_empty()) {
            let (trial, attempt, value) = open.pop_front().unwrap();
            let told = ToldTrial {
                trial,
                attempt,
                state: "completed".to_owned(),
                metrics: Some(Map::from_iter([("value".to_owned(), json!(value))])),
                reason: None,
            };
            server.send(&format!("{path}/tell"), &json!(told)).await;
        }
    }
    (configs, began.elapsed().as_secs_f64())
}

/// The configurations that the library suggests, in order.
fn by_library(problem: &Problem, params: &[Value], seed: u64, searched: &Searched) -> Vec<Config> {
    let space = Space::parse(params, "").expect("the spaces of the file are right");
    let mut searcher = Searcher::parse(&searched.searcher, &Map::new(), "").unwrap();
    let mut history = History::new();
    let fixed = Config::new();
    let mut configs = Vec::new();
    let mut open = VecDeque::new();
    for trial in 0..searched.trials {
        let request = Request {
            seed,
            trial,
            fixed: &fixed,
        };
        let config = searcher.suggest(&space, &history, &request);
        history.begin(trial, space.encode(&config));
        open.push_back((trial, (problem.value)(&config)));
        configs.push(config);
        let is_last = trial + 1 == searched.trials;
        while open.len() >= searched.outstanding || (is_last && !open.is_empty()) {
            let (told, value) = open.pop_front().unwrap();
            history.end(told, Some(value), 1, true);
        }
    }
    configs
}

/// How far the best of `configs` is from the optimum.
fn regret(problem: &Problem, configs: &[Config]) -> f64 {
    let values = configs.iter().map(|config| (problem.value)(config));
    (values.fold(f64::INFINITY, f64::min) - problem.optimum).max(0.0)
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// The API of a server.
struct Api {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Api {
    async fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> T {
        let answer = self.send(path, body).await;
        answer.json().await.unwrap()
    }

    async fn send(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}/api/v1{path}", self.url));
        let sent = request.bearer_auth(&self.key).json(body).send().await;
        let answer = sent.unwrap();
        if !answer.status().is_success() {
            panic!("{path} is answered with {}", answer.text().await.unwrap());
        }
        answer
    }
}

/// The CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: f64 = fields.next().unwrap().parse().unwrap();
    let system: f64 = fields.next().unwrap().parse().unwrap();
    (user + system) / 100.0
}
