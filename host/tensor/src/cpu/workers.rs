use std::sync::atomic::{AtomicBool, Ordering};

use std::marker::PhantomData;

use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

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
        match self.pool {
            Some(pool) if count > 1 => self.share(pool, count, &work),
            _ => {
                for piece in 0..count {
                    if self.stopped() {
                        return;
                    }
                    work(piece);
                }
            }
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
        let chunks = Chunks::new(output, length);
        self.each(chunks.elements.div_ceil(length), |piece| {
            #[expect(unsafe_code, reason = "each thread writes to another chunk")]
            // SAFETY: each piece is handed to `work` once.
            let chunk = unsafe { chunks.get(piece) };
            work(piece, chunk);
        });
    }

    /// As [`Workers::each_chunk`], with chunks of two outputs side by side; there are as many
    /// as `second` has.
    pub(crate) fn each_chunk_of_two<T: Send, U: Send>(
        &self,
        (first, first_length): (&mut [T], usize),
        (second, second_length): (&mut [U], usize),
        work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let first = Chunks::new(first, first_length);
        let second = Chunks::new(second, second_length);
        self.each(second.elements.div_ceil(second_length), |piece| {
            #[expect(unsafe_code, reason = "each thread writes to other chunks")]
            // SAFETY: each piece is handed to `work` once.
            let (first, second) = unsafe { (first.get(piece), second.get(piece)) };
            work(piece, first, second);
        });
    }

    /// As [`Workers::each_chunk`], with chunks of three outputs side by side; there are as
    /// many as the third has.
    pub(crate) fn each_chunk_of_three<T: Send, U: Send, V: Send>(
        &self,
        (first, first_length): (&mut [T], usize),
        (second, second_length): (&mut [U], usize),
        (third, third_length): (&mut [V], usize),
        work: impl Fn(usize, &mut [T], &mut [U], &mut [V]) + Sync,
    ) {
        let first = Chunks::new(first, first_length);
        let second = Chunks::new(second, second_length);
        let third = Chunks::new(third, third_length);
        self.each(third.elements.div_ceil(third_length), |piece| {
            #[expect(unsafe_code, reason = "each thread writes to other chunks")]
            // SAFETY: each piece is handed to `work` once.
            let (first, second, third) =
                unsafe { (first.get(piece), second.get(piece), third.get(piece)) };
            work(piece, first, second, third);
        });
    }

    /// One function for all kernels: what rayon makes of it is compiled once.
    fn share(&self, pool: &ThreadPool, count: usize, work: &(dyn Fn(usize) + Sync)) {
        pool.install(|| {
            (0..count).into_par_iter().for_each(|piece| {
                if !self.stopped() {
                    work(piece);
                }
            });
        });
    }
}

/// A slice that several threads write to, each to another chunk.
struct Chunks<'a, T> {
    start: *mut T,
    elements: usize,
    /// Elements of each chunk but the last.
    length: usize,
    output: PhantomData<&'a mut [T]>,
}

// SAFETY: `get` hands out parts of a `&mut [T]`; its callers take each part once.
#[expect(unsafe_code, reason = "each thread writes to another chunk")]
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    fn new(output: &'a mut [T], length: usize) -> Self {
        Self {
            start: output.as_mut_ptr(),
            elements: output.len(),
            length,
            output: PhantomData,
        }
    }

    /// The chunk of that number.
    ///
    /// # Safety
    /// Each chunk must be taken at most once.
    #[expect(unsafe_code, reason = "each thread writes to another chunk")]
    #[inline(always)]
    unsafe fn get(&self, piece: usize) -> &'a mut [T] {
        let first = piece * self.length;
        assert!(first <= self.elements);
        let length = self.length.min(self.elements - first);
        // SAFETY: the chunk is inside the slice; that no other slice of it lives is the
        // caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}
