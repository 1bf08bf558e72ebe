//! What a checkout of trainshed needs done to itself: building plugins to WebAssembly
//! components, writing the guest bindings, running the tests and the demonstration.
//!
//! The binary `cargo xtask` is a thin command line over it; whole-system tests call
//! [`plugins::build`] to have the plugins they drive. It never links the host: it must
//! compile in little time on a fresh machine. Start reading at [`plugins::build`].

pub mod bench;
pub mod bindings;
pub mod commands;
pub mod files;
pub mod pjrt;
pub mod plugins;
pub mod process;
mod processors;
pub mod toolchain;

/// Tells the user, on standard error, what is going on.
#[expect(
    clippy::print_stderr,
    reason = "progress is for the person at the terminal"
)]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
