use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

/// The threads that a run may use, and the flag that ends it early.
///
/// Kernels cut their work into pieces by shape alone and hand the pieces over; how many
/// threads there are therefore changes nothing but the time.
#[derive(Clone, Copy)]
pub(crate) struct Workers<'a> {
    pool: Option<&'a ThreadPool>,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Workers<'a> {
    /// Uses `pool`, or only the calling thread. With `stop`, pieces that have not begun
    /// when the flag is set are left out.
    pub(crate) fn new(pool: Option<&'a ThreadPool>, stop: Option<&'a AtomicBool>) -> Self {
        Self { pool, stop }
    }

    /// Whether the run is to end early.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Calls `work` for each piece in `0..count`.
    #[inline]
    pub(crate) fn each(&self, count: usize, work: impl Fn(usize) + Sync) {
        let work = |piece| {
            if !self.stopped() {
                work(piece);
            }
        };
        match self.pool {
            Some(pool) if count > 1 => pool.install(|| (0..count).into_par_iter().for_each(work)),
            _ => (0..count).for_each(work),
        }
    }

    /// Calls `work` for each chunk of `output`, all but the last of `length` elements.
    #[inline]
    pub(crate) fn each_chunk<T: Send>(
        &self,
        output: &mut [T],
        length: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let work = |(piece, chunk): (usize, &mut [T])| {
            if !self.stopped() {
                work(piece, chunk);
            }
        };
        match self.pool {
            Some(pool) if output.len() > length => {
                pool.install(|| output.par_chunks_mut(length).enumerate().for_each(work));
            }
            _ => output.chunks_mut(length).enumerate().for_each(work),
        }
    }
}
