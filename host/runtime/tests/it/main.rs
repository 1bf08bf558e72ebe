//! Runs small hostile and friendly guests, written as text, through the public API.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod limits;
mod loading;
mod outcomes;
mod reports;
mod support;
mod world;
