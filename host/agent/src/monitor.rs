//! What the machine does while tasks run: processors, memory, disks, network and NVIDIA GPUs,
//! measured every second and reported as the mean over a period.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use sysinfo::{Disks, Networks, System};
use tokio::sync::{mpsc, watch};
use trainshed_core::Timestamp;
use trainshed_core::report::{Point, Real, Report};
use trainshed_core::resource::{GPU_TITLE, MACHINE_TITLE, Reading};

/// How often is measured.
const EVERY: Duration = Duration::from_secs(1);

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;

/// Measures until the last receiver is gone; each value of the channel is the mean of one
/// period. `folder` names the disk whose free space is told.
///
/// A machine without NVIDIA's library has no GPU series, which is logged once.
pub(crate) fn start(folder: &Path, period: Duration) -> watch::Receiver<Option<Arc<Reading>>> {
    let (readings, receiver) = watch::channel(None);
    let mut probes = Probes::new(folder);
    tokio::task::spawn_blocking(move || {
        let mut mean = Mean::default();
        let mut begun = Instant::now();
        while !readings.is_closed() {
            std::thread::sleep(EVERY);
            mean.add(probes.measure());
            if begun.elapsed() >= period {
                begun = Instant::now();
                readings.send_replace(Some(Arc::new(Reading {
                    at: now(),
                    values: std::mem::take(&mut mean).values(),
                })));
            }
        }
    });
    receiver
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is measured carries the time of the machine that it was measured on"
)]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }))
}

/// Hands every new reading over as points of a task, whose iterations are the seconds since
/// now, counted from `initial_second`; never returns.
pub(crate) async fn report(
    mut readings: watch::Receiver<Option<Arc<Reading>>>,
    reports: mpsc::Sender<Vec<Report>>,
    initial_second: u64,
) -> Infallible {
    let started = Instant::now();
    // What was measured before the task began is not the task's.
    readings.mark_unchanged();
    while readings.changed().await.is_ok() {
        let Some(reading) = readings.borrow_and_update().clone() else {
            continue;
        };
        let point = |(name, value): (&String, &f64)| {
            let (title, series) = name.split_once('/').unwrap_or((MACHINE_TITLE, name));
            Report::Point(Point {
                title: title.to_owned(),
                series: series.to_owned(),
                iteration: initial_second.saturating_add(started.elapsed().as_secs()),
                value: Real(*value),
                at: reading.at,
                extra: None,
            })
        };
        let points = reading.values.iter().map(point).collect();
        if reports.send(points).await.is_err() {
            // The run itself notices, and ends with the reason.
            return std::future::pending().await;
        }
    }
    std::future::pending().await
}

/// Sums of what was measured, by `title/series`.
#[derive(Default)]
struct Mean(BTreeMap<String, (f64, f64)>);

impl Mean {
    fn add(&mut self, values: Vec<(String, f64)>) {
        for (name, value) in values {
            let (sum, count) = self.0.entry(name).or_default();
            *sum += value;
            *count += 1.0;
        }
    }

    fn values(self) -> BTreeMap<String, f64> {
        let means = self.0.into_iter();
        means
            .map(|(name, (sum, count))| (name, sum / count))
            .collect()
    }
}

/// Where the values come from.
struct Probes {
    system: Option<System>,
    networks: Option<Networks>,
    disks: Option<Disks>,
    gpus: Option<Nvml>,
    folder: PathBuf,
    last: Instant,
}

impl Probes {
    fn new(folder: &Path) -> Self {
        let gpus = match Nvml::init() {
            Ok(gpus) => Some(gpus),
            Err(error) => {
                tracing::info!("GPUs are not monitored: NVIDIA's management library says: {error}");
                None
            }
        };
        let mut system = known("processors and memory", System::new());
        // Use is a difference between two looks.
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self {
            system,
            networks: known("network", Networks::new_with_refreshed_list()),
            disks: known("disks", Disks::new_with_refreshed_list()),
            gpus,
            folder: folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
            last: Instant::now(),
        }
    }

    /// Everything since the last look, by `title/series`.
    fn measure(&mut self) -> Vec<(String, f64)> {
        let seconds = self.last.elapsed().as_secs_f64().max(1e-3);
        self.last = Instant::now();
        let mut values = Vec::new();
        self.measure_machine(seconds, &mut values);
        if let Some(gpus) = &self.gpus {
            measure_gpus(gpus, &mut values);
        }
        values
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a measurement is not exact to the byte"
    )]
    fn measure_machine(&mut self, seconds: f64, values: &mut Vec<(String, f64)>) {
        let mut tell = |series: &str, value: f64| {
            values.push((format!("{MACHINE_TITLE}/{series}"), value));
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            tell("cpu_usage", f64::from(system.global_cpu_usage()));
            tell("memory_used_gb", system.used_memory() as f64 / GIB);
            tell("memory_free_gb", system.available_memory() as f64 / GIB);
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
            let traffic = networks.iter().filter(|(name, _)| *name != "lo");
            let (sent, received) = traffic.fold((0, 0), |(sent, received), (_, network)| {
                (sent + network.transmitted(), received + network.received())
            });
            tell("network_tx_mbs", sent as f64 / MIB / seconds);
            tell("network_rx_mbs", received as f64 / MIB / seconds);
        }
        let Some(disks) = &mut self.disks else {
            return;
        };
        disks.refresh(true);
        let (mut read, mut written) = (0, 0);
        for disk in disks.iter() {
            let usage = disk.usage();
            read += usage.read_bytes;
            written += usage.written_bytes;
        }
        tell("io_read_mbs", read as f64 / MIB / seconds);
        tell("io_write_mbs", written as f64 / MIB / seconds);
        let holding = disks.iter();
        let holding = holding.filter(|disk| self.folder.starts_with(disk.mount_point()));
        let disk = holding.max_by_key(|disk| disk.mount_point().as_os_str().len());
        if let Some(disk) = disk {
            let total = (disk.total_space() as f64).max(1.0);
            let free = disk.available_space() as f64;
            tell("disk_free_percent", 100.0 * free / total);
            tell("disk_free_gb", free / GIB);
        }
    }
}

/// A probe, unless the machine does not have it, which is logged once.
fn known<T>(what: &str, probe: Result<T, sysinfo::Error>) -> Option<T> {
    match probe {
        Ok(probe) => Some(probe),
        Err(error) => {
            tracing::info!("this machine does not tell of its {what}: {error}");
            None
        }
    }
}

/// What each GPU tells; a value that its driver does not know is left out.
#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement is not exact to the byte"
)]
fn measure_gpus(gpus: &Nvml, values: &mut Vec<(String, f64)>) {
    for index in 0..gpus.device_count().unwrap_or(0) {
        let Ok(device) = gpus.device_by_index(index) else {
            continue;
        };
        let mut tell = |series: &str, value: f64| {
            values.push((format!("{GPU_TITLE}/gpu_{index}_{series}"), value));
        };
        if let Ok(rates) = device.utilization_rates() {
            tell("utilization", f64::from(rates.gpu));
        }
        if let Ok(memory) = device.memory_info() {
            let total = (memory.total as f64).max(1.0);
            tell("mem_usage", 100.0 * memory.used as f64 / total);
            tell("mem_used_gb", memory.used as f64 / GIB);
            tell("mem_free_gb", memory.free as f64 / GIB);
        }
        if let Ok(celsius) = device.temperature(TemperatureSensor::Gpu) {
            tell("temperature", f64::from(celsius));
        }
        if let Ok(milliwatts) = device.power_usage() {
            tell("power_watts", f64::from(milliwatts) / 1000.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_gets_the_mean_of_each_period_behind_its_last_second() {
        let (sender, readings) = watch::channel(None);
        let (reports, mut taken) = mpsc::channel(10);
        let reporting = tokio::spawn(report(readings, reports, 61));
        tokio::task::yield_now().await;
        let mut mean = Mean::default();
        for value in [1.0, 3.0] {
            mean.add(vec![(format!("{MACHINE_TITLE}/cpu_usage"), value)]);
        }
        sender.send_replace(Some(Arc::new(Reading {
            at: Timestamp(7),
            values: mean.values(),
        })));
        let points = taken.recv().await.unwrap();
        let [Report::Point(point)] = &points[..] else {
            panic!("a point was expected");
        };
        assert_eq!(
            (point.title.as_str(), point.series.as_str()),
            (MACHINE_TITLE, "cpu_usage")
        );
        assert_eq!((point.value, point.iteration), (Real(2.0), 61));
        reporting.abort();
    }

    #[test]
    fn every_machine_tells_of_its_processors_and_memory() {
        let mut probes = Probes::new(Path::new("/"));
        let values: BTreeMap<String, f64> = probes.measure().into_iter().collect();
        for series in [
            "cpu_usage",
            "memory_used_gb",
            "network_rx_mbs",
            "io_read_mbs",
        ] {
            let value = values[&format!("{MACHINE_TITLE}/{series}")];
            assert!(value >= 0.0 && value.is_finite(), "{series} is {value}");
        }
    }
}
