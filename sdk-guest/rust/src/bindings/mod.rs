//! What `cargo xtask bindings` generates from `wit/`, one file for each world.
//!
//! The worlds of the plugins share the types of `imports`. Nothing here is part of the
//! SDK's promise: the typed modules beside this one are.

#[rustfmt::skip]
pub mod imports;
#[rustfmt::skip]
pub mod preprocess_part;
#[rustfmt::skip]
pub mod preprocess_plugin;
#[rustfmt::skip]
pub mod train_plugin;
#[rustfmt::skip]
pub mod tune_part;
