//! Ends runs that outstay their limits: one plain thread looks at every run each tick.
//!
//! A guest can be in one of three places, and each has its own way of being ended. In
//! WebAssembly code it meets the epoch deadline and asks [`Watch::end`]. In a host call that
//! waits, [`Watch::ended`] wins the race against the call. In a tensor program, which holds
//! the thread, the executor looks at the flag of [`Watch::interrupt_flag`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trainshed_core::limits::Limits;
use wasmtime::Engine;

/// How often runs are looked at, and how long a guest runs between two epoch checks. A run on
/// all processors waits each time until this thread sleeps again.
const TICK: Duration = Duration::from_millis(50);

/// A request to stop one run, which is made once or never.
#[derive(Debug, Default)]
struct Request {
    asked_at: OnceLock<Instant>,
    asked: Notify,
}

/// Asks one run to stop.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<Request>);

/// Tells one run that it was asked to stop.
#[derive(Debug, Clone)]
pub struct StopSignal(Arc<Request>);

/// Makes the two ends of a request to stop.
pub fn stop_pair() -> (StopHandle, StopSignal) {
    let request = Arc::<Request>::default();
    (StopHandle(Arc::clone(&request)), StopSignal(request))
}

impl StopHandle {
    /// Asks the run to stop. It goes on for at most its grace time from the first call.
    pub fn stop(&self) {
        self.0.asked_at.get_or_init(Instant::now);
        self.0.asked.notify_waiters();
    }
}

impl StopSignal {
    /// Whether the run was asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.0.asked_at.get().is_some()
    }

    /// Returns when the run is asked to stop.
    pub async fn stopped(&self) {
        let asked = self.0.asked.notified();
        if !self.is_stopped() {
            asked.await;
        }
    }
}

/// Why a run was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It ran longer than its limit.
    WallTime,
    /// Its thread used more CPU time than its limit.
    CpuTime,
    /// It was asked to stop and its grace time is over.
    GraceOver,
    /// Nobody waits for its outcome any more.
    Abandoned,
}

/// The time limits of one run, and whether one of them has ended it.
#[derive(Debug)]
pub(crate) struct Watch {
    started: Instant,
    wall: Duration,
    cpu: Duration,
    grace: Duration,
    stop: StopSignal,
    /// The kernel's number of the run's thread, for its CPU time. Known once it runs.
    thread: OnceLock<i32>,
    end: OnceLock<End>,
    interrupt: Arc<AtomicBool>,
    ended: Notify,
    held: Mutex<Held>,
}

/// Time for which the host has held a run back, and since when it does.
#[derive(Debug, Default)]
struct Held {
    total: Duration,
    since: Option<Instant>,
}

/// A run is held back until this is dropped.
pub(crate) struct HeldBack(Arc<Watch>);

impl Drop for HeldBack {
    fn drop(&mut self) {
        let mut held = lock(&self.0.held);
        if let Some(since) = held.since.take() {
            held.total += since.elapsed();
        }
    }
}

impl Watch {
    /// Starts the clock.
    pub(crate) fn start(limits: &Limits, stop: StopSignal) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            wall: Duration::from_millis(limits.wall_ms),
            cpu: Duration::from_millis(limits.cpu_ms),
            grace: Duration::from_millis(limits.grace_ms),
            stop,
            thread: OnceLock::new(),
            end: OnceLock::new(),
            interrupt: Arc::new(AtomicBool::new(false)),
            ended: Notify::new(),
            held: Mutex::default(),
        })
    }

    /// Stops the clock of the wall time: what the run waits for is not its own doing.
    pub(crate) fn hold_back(self: &Arc<Self>) -> HeldBack {
        lock(&self.held).since.get_or_insert_with(Instant::now);
        HeldBack(Arc::clone(self))
    }

    /// For how long the run has run.
    fn ran(&self, now: Instant) -> Duration {
        let held = lock(&self.held);
        let holding = held.since.map(|since| now.saturating_duration_since(since));
        now.saturating_duration_since(self.started)
            .saturating_sub(held.total + holding.unwrap_or_default())
    }

    /// Says that the calling thread is the one whose CPU time counts.
    pub(crate) fn adopt_thread(&self) {
        let number = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.get_or_init(|| number);
    }

    /// Whether the run was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_stopped()
    }

    /// The time until the run's limit is reached.
    pub(crate) fn left(&self) -> Duration {
        self.wall.saturating_sub(self.ran(Instant::now()))
    }

    /// Ends the run unless it has ended before; the first reason stays.
    pub(crate) fn interrupt(&self, end: End) {
        self.end.get_or_init(|| end);
        self.interrupt.store(true, Ordering::Relaxed);
        self.ended.notify_one();
    }

    /// Why the run is over, if it is. Looks at the CPU time of the calling thread, which
    /// must be the run's.
    pub(crate) fn end(&self) -> Option<End> {
        if self.end.get().is_none() && own_cpu_time() > self.cpu {
            self.interrupt(End::CpuTime);
        }
        self.end.get().copied()
    }

    /// Returns when the run is over. Only one caller may wait.
    pub(crate) async fn ended(&self) -> End {
        loop {
            if let Some(end) = self.end.get() {
                return *end;
            }
            self.ended.notified().await;
        }
    }

    /// Becomes true when the run is over.
    pub(crate) fn interrupt_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupt)
    }

    fn check(&self, now: Instant) {
        if self.end.get().is_some() {
            return;
        }
        let asked_at = self.stop.0.asked_at.get();
        if asked_at.is_some_and(|asked| now.duration_since(*asked) >= self.grace) {
            self.interrupt(End::GraceOver);
        } else if self.ran(now) >= self.wall {
            self.interrupt(End::WallTime);
        } else if self.uses_too_much_cpu(now) {
            self.interrupt(End::CpuTime);
        }
    }

    /// Reads the CPU time of another thread, which only matters while that thread is in a
    /// long tensor program: it looks at its own time whenever it is in guest code.
    fn uses_too_much_cpu(&self, now: Instant) -> bool {
        // A thread cannot have used more CPU time than has passed.
        if now.duration_since(self.started) < self.cpu {
            return false;
        }
        let Some(thread) = self.thread.get() else {
            return false;
        };
        let Ok(statistics) = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))
        else {
            return false;
        };
        let nanoseconds = statistics.split_whitespace().next().map(str::parse::<u64>);
        matches!(nanoseconds, Some(Ok(used)) if Duration::from_nanos(used) > self.cpu)
    }
}

/// CPU time of the calling thread.
fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// The thread that advances the engine's epoch and looks at every run; ends when dropped.
pub(crate) struct Watchman {
    watched: Arc<Mutex<Vec<Weak<Watch>>>>,
    off_duty: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watchman {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the machine has no thread to give.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let watched: Arc<Mutex<Vec<Weak<Watch>>>> = Arc::default();
        let off_duty = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("watchman".into()).spawn({
            let (watched, off_duty) = (Arc::clone(&watched), Arc::clone(&off_duty));
            move || {
                while !off_duty.load(Ordering::Relaxed) {
                    thread::sleep(TICK);
                    engine.increment_epoch();
                    let now = Instant::now();
                    lock(&watched).retain(|watch| {
                        let watch = watch.upgrade();
                        watch.inspect(|watch| watch.check(now)).is_some()
                    });
                }
            }
        })?;
        Ok(Self {
            watched,
            off_duty,
            thread: Some(thread),
        })
    }

    /// Looks at `watch` each tick for as long as somebody else holds it.
    pub(crate) fn look_after(&self, watch: &Arc<Watch>) {
        lock(&self.watched).push(Arc::downgrade(watch));
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        self.off_duty.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; were it to, there would be nothing to do about it here.
            let _ = thread.join();
        }
    }
}

/// Locks, whatever happened to an earlier holder: what is guarded is whole between any two lines.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
