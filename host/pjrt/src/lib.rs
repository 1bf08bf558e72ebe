//! Accelerators through PJRT, the plugin interface of the XLA compiler.
//!
//! A plugin is a shared library that a Python package or a vendor brings along; it is
//! found and loaded at run time, so that one binary serves every device and needs none.
//! This crate owns the C interface and everything unsafe about it, and implements
//! [`Accelerator`](trainshed_tensor::Accelerator) with it. It knows nothing of plugins of
//! trainshed, and a plugin of PJRT is trusted like the host itself.
//!
//! Where to start reading: [`survey`], [`Plugin::load`], then [`Client`].
//! `docs/accelerators.md` says how devices are chosen and what was run on which.

#![warn(missing_docs)]

mod abi;
mod accelerator;
mod cache;
mod client;
mod find;
mod plugin;

pub use accelerator::Pjrt;
pub use client::{Client, DeviceInfo, PjrtError};
pub use find::{Found, Search, Survey, survey};
pub use plugin::{LoadError, Plugin};
