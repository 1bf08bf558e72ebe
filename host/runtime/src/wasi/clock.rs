//! Clocks of a resolution that tells a plugin the time but not what its neighbours compute.

use std::time::{Duration, Instant};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use crate::state::since_epoch;

const RESOLUTION: Duration = Duration::from_millis(1);

/// The time of day, in whole milliseconds.
pub(super) struct Wall;

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        whole_milliseconds(since_epoch())
    }
}

/// The time since the run began, in whole milliseconds.
pub(super) struct Monotonic {
    started: Instant,
}

impl Monotonic {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        nanoseconds(RESOLUTION)
    }

    fn now(&self) -> u64 {
        nanoseconds(whole_milliseconds(self.started.elapsed()))
    }
}

fn whole_milliseconds(time: Duration) -> Duration {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(milliseconds)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
