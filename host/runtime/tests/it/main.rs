//! Runs small hostile and friendly guests, written as text, through the public API.

mod limits;
mod loading;
mod outcomes;
mod reports;
mod support;
mod world;
