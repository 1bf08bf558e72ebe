//! What a plan says is what the memory allocator is then asked for.

#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "a failed unwrap is a failed test; counting allocations needs an allocator"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use support::random;
use trainshed_tensor::{Budget, Context, Executable, ProgramError};

/// Counts the bytes that each thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: passes every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held beyond those that were held before.
fn most_held<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    (result, u64::try_from(MOST.get() - before).unwrap())
}

/// Tables of a session and a run, whatever the tensors' sizes: of where each value lies, of
/// what a call passes on, and room for each tensor up to the end of its last cache line.
fn tables(values: usize) -> u64 {
    4096 + 256 * values as u64
}

#[test]
fn a_run_allocates_what_its_plan_says_and_nothing_else() {
    let mut largest = 0;
    for seed in 0..100 {
        let (program, inputs) = random::large_program(seed, 40);
        let account = Budget::new(1 << 30);
        let context = Context::new(account.clone(), 1, std::sync::Arc::default()).unwrap();
        let executable = Executable::compile(&program, &account).unwrap();
        let constants = account.used();
        let plan = executable.plan();
        let planned = plan.workspace_bytes + plan.output_bytes;
        let run = || {
            let mut session = executable.bind(Vec::new(), &context).unwrap();
            session.run(&inputs).unwrap()
        };
        // The first run makes the buffers that stay with the thread.
        run();
        let (outputs, held) = most_held(run);
        assert_eq!(account.peak(), constants + planned, "seed {seed}");
        let most = planned + tables(program.instructions.len());
        assert!((planned..=most).contains(&held), "seed {seed}: {held}");
        drop(outputs);
        assert_eq!(account.used(), constants);
        largest = largest.max(planned);
    }
    assert!(largest > 1_000_000);
}

#[test]
fn a_program_compiles_with_just_the_memory_that_it_needs() {
    for seed in 0..200 {
        let (program, inputs) = random::smooth_program(seed, 20);
        let plan = Executable::compile(&program, &Budget::new(1 << 30));
        let plan = plan.unwrap().plan();
        let needed = plan.workspace_bytes + plan.output_bytes;
        let context = Context::new(Budget::new(needed), 1, std::sync::Arc::default()).unwrap();
        let executable = Executable::compile(&program, context.budget()).unwrap();
        let mut session = executable.bind(Vec::new(), &context).unwrap();
        session.run(&inputs).unwrap();
        if let Some(allowed) = needed.checked_sub(1) {
            let refused = Executable::compile(&program, &Budget::new(allowed)).unwrap_err();
            assert_eq!(refused, ProgramError::OutOfMemory { needed, allowed });
        }
    }
}
