use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The threads of a task beside the caller's.
pub(crate) struct Helpers {
    pool: ThreadPool,
    lobby: Arc<Lobby>,
}

impl Helpers {
    /// Starts so many.
    pub(crate) fn start(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("tensor-{index}"))
            .build()?;
        let lobby = Arc::new(Lobby::default());
        Ok(Self { pool, lobby })
    }

    /// Has one of them do `work` when it is free.
    pub(crate) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        let lobby = Arc::clone(&self.lobby);
        lobby.errands.fetch_add(1, Ordering::Relaxed);
        self.pool.spawn(move || {
            lobby.errands.fetch_sub(1, Ordering::Relaxed);
            work();
        });
    }
}

/// The threads that a run may use, and the flag that ends it early.
///
/// Kernels cut their work into pieces by shape alone and hand the pieces over; how many
/// threads there are therefore changes nothing but the time.
#[derive(Clone, Copy)]
pub(crate) struct Workers<'a> {
    helpers: Option<&'a Helpers>,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Workers<'a> {
    /// Uses the calling thread and `helpers`. With `stop`, pieces that have not begun
    /// when the flag is set are left out.
    pub(crate) fn new(helpers: Option<&'a Helpers>, stop: Option<&'a AtomicBool>) -> Self {
        Self { helpers, stop }
    }

    /// Whether the run is to end early.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Calls `work` for each piece in `0..count`.
    #[inline]
    pub(crate) fn each(&self, count: usize, work: impl Fn(usize) + Sync) {
        match self.helpers {
            Some(helpers) if count > 1 => self.share(helpers, count, &work),
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

    /// Shares the pieces out between the calling thread and the helpers: whoever is free takes
    /// the next one. Helpers that wait in the lobby are called; others are woken.
    ///
    /// The calling thread waits for helpers that have begun, but not for those that have not:
    /// they will find the gate closed. So a pool whose threads are busy or asleep costs no more
    /// than asking them, which a scope of rayon's, waiting for all it has spawned, cannot
    /// promise. A thread that waits here takes no other work meanwhile, so threads that share
    /// out pieces of pieces never wait for each other in a circle.
    ///
    /// Not generic, so that it is compiled once for all kernels.
    #[inline(never)]
    fn share(&self, helpers: &Helpers, count: usize, work: &(dyn Fn(usize) + Sync)) {
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
        let wanted = helpers.pool.current_num_threads().min(count - 1);
        let Called { number, waiting } = helpers.lobby.call(&gate, address);
        for _ in waiting..wanted {
            let gate = Arc::clone(&gate);
            let lobby = Arc::clone(&helpers.lobby);
            helpers
                .pool
                .spawn(move || lobby.serve(number, gate, address));
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

/// Where helpers that have just helped wait a moment: runs hand over work every few
/// microseconds, and waking a thread that sleeps takes as long as some of that work.
#[derive(Default)]
struct Lobby {
    waiting: AtomicUsize,
    /// How often somebody has called.
    calls: AtomicUsize,
    /// What the last call was for.
    last: Mutex<Option<(Arc<Gate>, Address)>>,
    /// Other things that the threads have been asked to do.
    errands: AtomicUsize,
}

/// What a call has met.
struct Called {
    /// Which call it was.
    number: usize,
    /// How many helpers are about to hear it.
    waiting: usize,
}

/// How often a helper looks for a call before it leaves the lobby: some ten microseconds.
const LOOKS: usize = 1000;

impl Lobby {
    /// Calls the helpers that wait to a gate.
    fn call(&self, gate: &Arc<Gate>, address: Address) -> Called {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Arc::clone(gate), address));
        Called {
            number: self.calls.fetch_add(1, Ordering::Release) + 1,
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Helps at the gate of that call, and then at those of calls that follow soon.
    fn serve(&self, mut number: usize, mut gate: Arc<Gate>, mut address: Address) {
        loop {
            gate.help(address);
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let has_called = self.listen(number);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            if !has_called {
                return;
            }
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            number = self.calls.load(Ordering::Relaxed);
            if let Some((next, place)) = &*last {
                (gate, address) = (Arc::clone(next), *place);
            }
        }
    }

    /// Waits for a call after that one; `false` when there is none, or something else to do.
    fn listen(&self, number: usize) -> bool {
        for _ in 0..LOOKS {
            if self.calls.load(Ordering::Acquire) != number {
                return true;
            }
            if self.errands.load(Ordering::Relaxed) > 0 {
                return false;
            }
            std::hint::spin_loop();
        }
        false
    }
}

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

    use super::{Helpers, Workers};

    fn helpers() -> Helpers {
        Helpers::start(3).unwrap()
    }

    #[test]
    fn each_piece_is_done_once() {
        let helpers = helpers();
        let workers = Workers::new(Some(&helpers), None);
        for count in 0..200 {
            let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            workers.each(count, |piece| {
                done[piece].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn whoever_waits_in_the_lobby_leaves_it_for_other_work() {
        let helpers = Helpers::start(1).unwrap();
        let workers = Workers::new(Some(&helpers), None);
        let (sender, receiver) = std::sync::mpsc::channel();
        helpers.spawn(move || sender.send(()).unwrap());
        // The only helper does it, although it is called again and again.
        while receiver.try_recv().is_err() {
            workers.each(4, |_| std::hint::spin_loop());
        }
    }

    #[test]
    fn pieces_may_share_out_pieces_of_their_own() {
        let helpers = helpers();
        let workers = Workers::new(Some(&helpers), None);
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
        let helpers = helpers();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
        for _ in 0..3 {
            let receiver = std::sync::Arc::clone(&receiver);
            helpers.spawn(move || assert!(receiver.lock().unwrap().recv().is_err()));
        }
        let done = AtomicUsize::new(0);
        Workers::new(Some(&helpers), None).each(64, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 64);
        drop(sender);
    }

    #[test]
    fn a_panic_of_any_thread_reaches_the_caller() {
        let helpers = helpers();
        let workers = Workers::new(Some(&helpers), None);
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
        let helpers = helpers();
        let stop = AtomicBool::new(true);
        let workers = Workers::new(Some(&helpers), Some(&stop));
        workers.each(64, |piece| panic!("piece {piece} has begun"));
    }
}
