//! Whole-system tests: the real binary, real plugins, a real database.
//!
//! Each module is one promise of the README. Start reading at [`shed`] for how a test talks
//! to the system.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![expect(
    clippy::print_stderr,
    reason = "what servers say belongs to the output of a test"
)]

mod accelerators;
mod actions;
mod again;
mod agents;
mod architecture;
mod artifacts;
mod autolog;
mod cli;
mod conformance;
mod datasets;
mod examples;
mod faults;
mod hostile;
mod networks;
mod preprocess;
mod reports;
mod shed;
mod storage;
mod tabular;
mod tracking;
mod training;
mod transfer;
mod tune;
