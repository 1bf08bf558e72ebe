//! Measures how fast points are recorded and read, over HTTP and durably:
//! `cargo xtask bench ingest [--postgres URL] [--seconds N]`.
//!
//! The server is this process; the clients are threads of another one, which send requests
//! that were encoded before over connections that stay open. CPU time is the server's alone;
//! with PostgreSQL, what that takes is not in it.
#![expect(clippy::print_stdout, reason = "that is what it is for")]
#![expect(clippy::unwrap_used, reason = "nothing here comes from outside")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trainshed_engine::Database;
use trainshed_wire::{Client, FrameBuilder, POINTS_TYPE};

use lab::Lab;

const CLIENTS: usize = 8;
/// Requests of each client that were encoded before.
const REQUESTS: u64 = 64;
const START: i64 = 1_700_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "client") {
        let [_, url, key, form, size, seconds, tasks] = &*arguments else {
            panic!("a client gets six arguments");
        };
        let (size, seconds) = (size.parse().unwrap(), seconds.parse().unwrap());
        run_clients(
            (url, key),
            (form, size),
            Duration::from_secs(seconds),
            tasks,
        );
        return;
    }
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let seconds = option("--seconds").map_or(5, |seconds| seconds.parse().unwrap());
    let database = option("--postgres").map_or(Database::Folder, Database::Postgres);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(database, seconds));
}

async fn measure(database: Database, seconds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::start(folder.path(), database.clone()).await;
    println!("{CLIENTS} clients, {seconds} s each, {database:?}");
    println!("| calls | calls/s | points/s | server CPU a point | p50 | p95 | refused |");
    println!("|---|---|---|---|---|---|---|");
    for (form, size) in [
        ("json", 1),
        ("json", 10),
        ("json", 1000),
        ("curves", 1000),
        ("binary", 1000),
    ] {
        let mut tasks = Vec::new();
        for client in 0..CLIENTS {
            tasks.push(
                lab.task(&format!("{form} {size} {client}"))
                    .await
                    .to_string(),
            );
        }
        let before = cpu_seconds();
        let clients = Command::new(std::env::current_exe().unwrap())
            .args(["client", &lab.url, &lab.key, form])
            .args([size.to_string(), seconds.to_string(), tasks.join(",")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = tokio::task::spawn_blocking(move || clients.wait_with_output());
        let output = output.await.unwrap().unwrap();
        let cpu = cpu_seconds() - before;
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<f64> = text
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        let [calls, wall, p50, p95, refused] = *numbers else {
            panic!("a client says five numbers, not {text}");
        };
        let points = calls * size as f64;
        println!(
            "| {form} of {size} | {:.0} | {:.0} | {:.2} us | {p50:.2} ms | {p95:.2} ms | {refused} |",
            calls / wall,
            points / wall,
            cpu / points * 1e6
        );
        for task in &tasks {
            lab.engine
                .stop(&lab.workspace, &task.parse().unwrap(), "done".into())
                .await
                .unwrap();
        }
    }
    charts(&lab).await;
    many_points(&lab).await;
    lab.close().await;
    println!("data folder: {} bytes", bytes_of(folder.path()));
}

/// A chart of a curve of a million points.
async fn charts(lab: &Lab) {
    let task = lab.task("long curve").await.to_string();
    let client = Client::new(&lab.url, &lab.key);
    for part in 0..10_u64 {
        let mut builder = FrameBuilder::default();
        for step in part * 100_000..(part + 1) * 100_000 {
            let names = ("train".into(), "loss".into());
            builder.push(names, step, time(step), value(step), None);
        }
        let frame = builder.finish();
        client.append_points(&task, None, &frame).await.unwrap();
    }
    // Until the points are in chunks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for what in [
        "max_samples=1000",
        "max_samples=1000&sampling=lttb",
        "max_samples=1000&from=500000&to=520000",
    ] {
        let path = format!("/api/v1/tasks/{task}/scalars/points?title=train&series=loss&{what}");
        let request = request((&lab.url, &lab.key), "GET", &path, "application/json", b"");
        let url = lab.url.clone();
        let latencies = tokio::task::spawn_blocking(move || {
            let mut connection = Connection::open(&url);
            let mut latencies = Vec::new();
            for _ in 0..200 {
                let start = Instant::now();
                assert_eq!(connection.send(&request), 200);
                latencies.push(start.elapsed().as_secs_f64() * 1e3);
            }
            latencies
        });
        let latencies = sorted(latencies.await.unwrap());
        let (p50, p95) = (quantile(&latencies, 0.5), quantile(&latencies, 0.95));
        println!("chart of 1,000,000 points, {what}: p50 {p50:.2} ms, p95 {p95:.2} ms");
    }
}

/// Ten million points of a thousand curves.
async fn many_points(lab: &Lab) {
    let task = lab.task("many curves").await.to_string();
    let client = Client::new(&lab.url, &lab.key);
    let names: Vec<String> = (0..1000).map(|series| format!("s{series}")).collect();
    let start = Instant::now();
    for part in 0..100_u64 {
        let mut builder = FrameBuilder::default();
        for step in part * 100..(part + 1) * 100 {
            for (number, name) in (0_u64..).zip(&names) {
                let curve = ("train".into(), name.as_str().into());
                builder.push(curve, step, time(step), value(step * 1000 + number), None);
            }
        }
        let frame = builder.finish();
        client.append_points(&task, None, &frame).await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = |what: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        line.unwrap_or("unknown").trim().to_owned()
    };
    println!(
        "10,000,000 points of 1000 curves in {seconds:.1} s; the server has {} in memory, at most {}",
        memory("VmRSS:"),
        memory("VmHWM:")
    );
}

fn time(step: u64) -> i64 {
    START + step.cast_signed() * 50 + (step.cast_signed() * 7919) % 5
}

fn value(step: u64) -> f64 {
    let noise = step
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
        >> 11;
    2.0 / (1.0 + step as f64 / 5000.0) + noise as f64 / (1_u64 << 53) as f64 / 10.0
}

fn run_clients(server: (&str, &str), (form, size): (&str, u64), time: Duration, tasks: &str) {
    let threads: Vec<_> = (0_u64..)
        .zip(tasks.split(','))
        .map(|(client, task)| {
            let path = format!("/api/v1/tasks/{task}/metrics");
            let bodies =
                (0..REQUESTS).map(|number| body(form, client * 10_000_000 + number * size, size));
            let media_type = if form == "binary" {
                POINTS_TYPE
            } else {
                "application/json"
            };
            let requests: Vec<Vec<u8>> = bodies
                .map(|body| request(server, "POST", &path, media_type, &body))
                .collect();
            let url = server.0.to_owned();
            std::thread::spawn(move || {
                let mut connection = Connection::open(&url);
                let (mut latencies, mut refused) = (Vec::new(), 0);
                let start = Instant::now();
                for request in requests.iter().cycle() {
                    if start.elapsed() >= time {
                        break;
                    }
                    let sent = Instant::now();
                    refused += u32::from(connection.send(request) != 200);
                    latencies.push(sent.elapsed().as_secs_f64() * 1e3);
                }
                (latencies, refused)
            })
        })
        .collect();
    let start = Instant::now();
    let mut all = Vec::new();
    let mut refused = 0;
    for thread in threads {
        let (latencies, more) = thread.join().unwrap();
        all.extend(latencies);
        refused += more;
    }
    let wall = start.elapsed().as_secs_f64();
    let all = sorted(all);
    let (p50, p95) = (quantile(&all, 0.5), quantile(&all, 0.95));
    println!("{} {wall} {p50} {p95} {refused}", all.len());
}

fn body(form: &str, first: u64, size: u64) -> Vec<u8> {
    let steps = first..first + size;
    if form == "json" {
        let mut text = String::from("{\"points\":[");
        for step in steps {
            let (series, comma) = (step % 10, if step > first { "," } else { "" });
            let (value, at) = (value(step), time(step));
            write!(text, r#"{comma}{{"title":"train","series":"m{series}","iteration":{step},"value":{value},"at":{at}}}"#).unwrap();
        }
        text.push_str("]}");
        return text.into_bytes();
    }
    let mut builder = FrameBuilder::default();
    for step in steps.clone() {
        let names = ("train".into(), format!("m{}", step % 10).into());
        builder.push(names, step, time(step), value(step), None);
    }
    let frame = builder.finish();
    if form == "binary" {
        return frame.encode();
    }
    let curves = frame.curves().map(|curve| {
        let (steps, times, values) = (curve.points.steps(), curve.points.times(), curve.points.values());
        serde_json::json!({"title": curve.title, "series": curve.series, "iterations": steps, "times": times, "values": values})
    });
    let curves: Vec<_> = curves.collect();
    serde_json::json!({ "curves": curves })
        .to_string()
        .into_bytes()
}

fn request(
    (url, key): (&str, &str),
    method: &str,
    path: &str,
    media_type: &str,
    body: &[u8],
) -> Vec<u8> {
    let host = url.trim_start_matches("http://");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A connection that stays open. It understands what our server answers.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends a request and reads the answer; its status.
    fn send(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).unwrap();
        self.buffer.clear();
        loop {
            let mut piece = [0; 64 << 10];
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "the server has closed the connection");
            self.buffer.extend_from_slice(&piece[..count]);
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { continue };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if self.buffer.len() >= end + 4 + length {
                return head[9..12].parse().unwrap();
            }
        }
    }
}

fn sorted(mut latencies: Vec<f64>) -> Vec<f64> {
    latencies.sort_by(f64::total_cmp);
    latencies
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (sorted.len() as f64 * share) as usize;
    sorted
        .get(place.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// CPU time of this process so far, where there is `/proc`.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn bytes_of(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    let bytes = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            bytes_of(&entry.path())
        } else {
            metadata.len()
        }
    };
    entries.map(|entry| bytes(entry.unwrap())).sum()
}
