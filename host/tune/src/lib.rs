//! Tuning: search spaces, searchers, schedulers, and the experiment as a fold over events.
//!
//! Everything here is a function of what it is given: no clock, no files, no threads, no chance
//! but the experiment's seed. The same log gives the same state and the same next suggestion on
//! every machine. Nothing here will ever run a trial or keep one; whoever does asks
//! [`Experiment::next`] what to run, tells it what happened, and keeps the events it returns.
//!
//! Start reading at [`experiment`]; [`Space`] says what a search space is, [`search`] which
//! configuration comes next, [`payload`] and [`importance`] what users see. What users can write
//! stands in `docs/tuning.md`.
#![warn(missing_docs)]

mod domain;
pub mod experiment;
pub mod history;
pub mod importance;
mod math;
mod optimise;
mod options;
pub mod payload;
mod plan;
mod schedule;
pub mod search;
mod settings;
mod space;
mod stream;

pub use domain::{Axis, Domain};
pub use experiment::Experiment;
pub use schedule::Decision;
pub use space::{Condition, Config, Parameter, Point, Space};
