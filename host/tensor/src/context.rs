use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::{Helpers, Workers};
use crate::{Budget, ProgramError};

/// The most threads of one task.
const MOST_THREADS: usize = 256;

/// Runs that take less stay on the calling thread.
const SHORT_NANOSECONDS: u64 = 50_000;

/// What one task may use: memory, threads, and time until it is stopped.
///
/// Clones share all three.
#[derive(Clone)]
pub struct Context {
    budget: Budget,
    helpers: Option<Arc<Helpers>>,
    stop: Arc<AtomicBool>,
}

impl Context {
    /// Starts the threads of a task: none but the caller's when `threads` is 1 or 0.
    ///
    /// When `stop` becomes true, runs end with [`ProgramError::Stopped`].
    ///
    /// # Errors
    /// [`ProgramError::Argument`] when there are too many threads or the machine does not
    /// give them.
    pub fn new(
        budget: Budget,
        threads: usize,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, ProgramError> {
        if threads > MOST_THREADS {
            return Err(ProgramError::Argument(format!(
                "{threads} threads are wanted, but a task may have at most {MOST_THREADS}"
            )));
        }
        let helpers = if threads <= 1 {
            None
        } else {
            // The caller's is one of them.
            let helpers = Helpers::start(threads - 1).map_err(|error| {
                ProgramError::Argument(format!("{threads} threads cannot be started: {error}"))
            })?;
            Some(Arc::new(helpers))
        };
        Ok(Self {
            budget,
            helpers,
            stop,
        })
    }

    /// The account that sessions and their outputs are charged to.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether the task was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Becomes true when the task is to stop.
    pub(crate) fn stop_flag(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Whether there are threads beside the caller's.
    pub(crate) fn has_helpers(&self) -> bool {
        self.helpers.is_some()
    }

    /// Has one of the task's threads do `work` when it is free; nobody does where there are
    /// none.
    pub(crate) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(helpers) = &self.helpers {
            helpers.spawn(work);
        }
    }

    /// Threads for kernels that the stop flag may end, of a run that takes about so long.
    pub(crate) fn workers(&self, nanoseconds: u64) -> Workers<'_> {
        Workers::new(self.helpers(nanoseconds), Some(&self.stop))
    }

    /// Threads for kernels that must run to their end.
    pub(crate) fn committing_workers(&self, nanoseconds: u64) -> Workers<'_> {
        Workers::new(self.helpers(nanoseconds), None)
    }

    /// A short run is over before other threads are awake.
    fn helpers(&self, nanoseconds: u64) -> Option<&Helpers> {
        let helpers = self.helpers.as_deref();
        helpers.filter(|_| nanoseconds >= SHORT_NANOSECONDS)
    }
}
