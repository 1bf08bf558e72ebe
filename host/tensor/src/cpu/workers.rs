use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};

use rayon::ThreadPool;

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
    /// Uses the calling thread and `pool`. With `stop`, pieces that have not begun
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

    /// Shares the pieces out between the calling thread and the pool's: whoever is free takes
    /// the next one.
    ///
    /// The calling thread waits for helpers that have begun, but not for those that have not:
    /// they will find the gate closed. So a pool whose threads are busy or asleep costs no more
    /// than asking them, which a scope of rayon's, waiting for all it has spawned, cannot
    /// promise. A thread that waits here takes no other work meanwhile, so threads that share
    /// out pieces of pieces never wait for each other in a circle.
    ///
    /// Not generic, so that it is compiled once for all kernels.
    #[inline(never)]
    fn share(&self, pool: &ThreadPool, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let pieces = Pieces {
            work,
            stop: self.stop,
            next: AtomicUsize::new(0),
            count,
        };
        let gate = Arc::new(Gate {
            inside: AtomicUsize::new(0),
            caller: thread::current(),
            panic: Mutex::new(None),
        });
        // Closes the gate and waits whatever happens, a panic of a piece that runs here
        // included: no helper may see `pieces` after this function.
        let closing = Closing(&gate);
        let address = Address(std::ptr::from_ref(&pieces).cast());
        for _ in 0..pool.current_num_threads().min(count - 1) {
            let gate = Arc::clone(&gate);
            pool.spawn(move || gate.help(address));
        }
        pieces.run();
        drop(closing);
        let mut panic = gate.panic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic.take() {
            resume_unwind(panic);
        }
    }
}

/// What is to be done by several threads.
struct Pieces<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    stop: Option<&'a AtomicBool>,
    /// The first piece that nobody has taken.
    next: AtomicUsize,
    count: usize,
}

impl Pieces<'_> {
    /// Takes pieces until none is left.
    fn run(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            let stopped = self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
            if piece >= self.count || stopped {
                return;
            }
            (self.work)(piece);
        }
    }
}

/// Where [`Pieces`] lie; they may be gone.
#[derive(Clone, Copy)]
struct Address(*const Pieces<'static>);

// SAFETY: only threads that the gate has let in look there, and `Pieces` is `Sync`.
#[expect(unsafe_code, reason = "helpers may start after the work has ended")]
unsafe impl Send for Address {}

/// Lets helpers in to the calling thread's [`Pieces`] until that thread closes it.
struct Gate {
    /// How many helpers are inside; [`CLOSED`] is added when no more may enter.
    inside: AtomicUsize,
    caller: Thread,
    /// What the first helper that panicked has said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// More than there are threads.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How often the calling thread looks whether the last helper has left before it sleeps.
const SPINS: usize = 2000;

impl Gate {
    /// Does pieces that lie at `address` if the gate is still open.
    fn help(&self, address: Address) {
        let enter = |inside: usize| (inside < CLOSED).then_some(inside + 1);
        let inside = &self.inside;
        if inside
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, enter)
            .is_err()
        {
            return;
        }
        #[expect(unsafe_code, reason = "helpers may start after the work has ended")]
        // SAFETY: the gate was open, so `Closing` has not returned, and it does not before
        // this thread has left; until then the pieces live.
        let pieces = unsafe { &*address.0 };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| pieces.run())) {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
        }
        // What this thread has written is seen by who sees that it has left.
        if inside.fetch_sub(1, Ordering::Release) == CLOSED + 1 {
            self.caller.unpark();
        }
    }
}

/// Closes the gate when it is dropped, and waits until everybody has left.
struct Closing<'a>(&'a Gate);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let inside = &self.0.inside;
        let mut left = inside.fetch_add(CLOSED, Ordering::Acquire);
        for _ in 0..SPINS {
            if left & !CLOSED == 0 {
                return;
            }
            std::hint::spin_loop();
            left = inside.load(Ordering::Acquire);
        }
        while inside.load(Ordering::Acquire) != CLOSED {
            thread::park();
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::Workers;

    fn pool() -> rayon::ThreadPool {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(3);
        builder.build().unwrap()
    }

    #[test]
    fn each_piece_is_done_once() {
        let pool = pool();
        let workers = Workers::new(Some(&pool), None);
        for count in 0..200 {
            let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            workers.each(count, |piece| {
                done[piece].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn pieces_may_share_out_pieces_of_their_own() {
        let pool = pool();
        let workers = Workers::new(Some(&pool), None);
        let done = AtomicUsize::new(0);
        workers.each(20, |_| {
            workers.each(20, |_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(done.load(Ordering::Relaxed), 400);
    }

    #[test]
    fn a_pool_whose_threads_are_busy_is_not_waited_for() {
        let pool = pool();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
        for _ in 0..3 {
            let receiver = std::sync::Arc::clone(&receiver);
            pool.spawn(move || assert!(receiver.lock().unwrap().recv().is_err()));
        }
        let done = AtomicUsize::new(0);
        Workers::new(Some(&pool), None).each(64, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 64);
        drop(sender);
    }

    #[test]
    fn a_panic_of_any_thread_reaches_the_caller() {
        let pool = pool();
        let workers = Workers::new(Some(&pool), None);
        let caller = std::thread::current().id();
        let is_caller = || std::thread::current().id() == caller;
        for caller_panics in [false, true] {
            let begun = AtomicBool::new(false);
            let run = std::panic::AssertUnwindSafe(|| {
                workers.each(4, |_| {
                    if is_caller() == caller_panics {
                        begun.store(true, Ordering::Relaxed);
                        panic!("on purpose");
                    }
                    while !begun.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                });
            });
            assert!(std::panic::catch_unwind(run).is_err());
        }
        // The threads live on.
        let done = AtomicUsize::new(0);
        workers.each(64, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 64);
    }

    #[test]
    fn after_a_stop_no_piece_begins() {
        let pool = pool();
        let stop = AtomicBool::new(true);
        let workers = Workers::new(Some(&pool), Some(&stop));
        workers.each(64, |piece| panic!("piece {piece} has begun"));
    }
}
