//! Native tensor work for plugins: compute programs, their checks, gradients and plans,
//! and an executor for host processors.
//!
//! A plugin records a [`Program`] once; the host compiles it to an [`Executable`] and runs
//! it in a [`Session`] that holds the parameters. Programs come from hostile guests:
//! nothing they contain may panic, hang, or allocate beyond the task's [`Budget`]. So an
//! untyped program is parsed into a typed graph first (`check`), and everything behind
//! that takes the graph's rules for granted. `docs/programs.md` is the reference of the
//! operations.
//!
//! This crate never reads files, clocks or chance, and knows nothing of plugins.
//!
//! Where to start reading: [`Executable::compile`], then `check` (rules), `gradient`,
//! `plan` (fusion and memory) and `cpu` (kernels). A new operation is a rule in
//! `check::rules`, a derivative in `gradient`, and either an arm of `cpu::tile` or a
//! kernel beside `cpu::softmax` with its lowering in `plan::lower`.

#![warn(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian in memory and in plugins");

mod batches;
mod budget;
mod check;
mod composite;
mod context;
mod cpu;
mod device;
mod dtype;
mod emit;
mod gradient;
mod ir;
mod plan;
mod program;
mod serial;
mod session;
mod shape;
mod stablehlo;
mod tensor;
mod window;

pub use batches::Batches;
pub use budget::{Budget, Reservation};
pub use context::Context;
pub use device::{Accelerator, Device, DeviceBuffer, DeviceError, DeviceMemory, DeviceProgram};
pub use dtype::DType;
pub use gradient::gradient;
pub use program::{
    Attribute, Body, Instruction, Problem, Program, ProgramError, State, Update, Value,
};
pub use session::{Executable, Plan, Session};
pub use stablehlo::stablehlo;
pub use tensor::Tensor;
