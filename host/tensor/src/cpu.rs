//! The executor for host processors: kernels, and the memory and threads they run on.
//!
//! A [`Kernel`] is made by the planner from checked shapes. Kernels cannot fail; bounds
//! are asserted all the same.

mod dot;
mod fused;
mod index;
mod math;
mod memory;
mod number;
mod reduce;
mod softmax;
mod tile;
mod workers;

pub(crate) use dot::Dot;
pub(crate) use fused::{Fused, Instruction, Load, Operand, Scalar, ScalarSource, Store};
pub(crate) use index::{ScatterAdd, Take};
pub(crate) use memory::{Memory, Region, ValueId};
pub(crate) use reduce::{ArgMax, Reduce};
pub(crate) use softmax::Softmax;
pub(crate) use tile::TileOp;
pub(crate) use workers::Workers;

use crate::DType;

/// One step of a compiled program.
#[derive(Debug)]
pub(crate) enum Kernel {
    Fused(Fused),
    Plain(Plain),
}

/// A kernel that reads whole operands and writes one result, which shares no bytes with them.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) op: PlainOp,
    pub(crate) operands: Vec<ValueId>,
    pub(crate) result: ValueId,
}

#[derive(Debug)]
pub(crate) enum PlainOp {
    Reduce(Reduce),
    ArgMax(ArgMax),
    Dot(Dot),
    Softmax(Softmax),
    Take(Take),
    ScatterAdd(ScatterAdd),
}

impl Kernel {
    /// The values that the kernel reads; one may be named twice.
    pub(crate) fn reads(&self) -> Vec<ValueId> {
        match self {
            Self::Fused(fused) => {
                let scalars = fused
                    .scalars
                    .iter()
                    .filter_map(|scalar| match scalar.source {
                        ScalarSource::Value(value, _) => Some(value),
                        ScalarSource::Literal(_) => None,
                    });
                fused
                    .loads
                    .iter()
                    .map(|load| load.value)
                    .chain(scalars)
                    .collect()
            }
            Self::Plain(plain) => plain.operands.clone(),
        }
    }

    /// The values that the kernel writes.
    pub(crate) fn writes(&self) -> Vec<ValueId> {
        match self {
            Self::Fused(fused) => fused.stores.iter().map(|store| store.value).collect(),
            Self::Plain(plain) => vec![plain.result],
        }
    }

    /// Estimated floating-point operations of one run.
    pub(crate) fn flops(&self) -> u64 {
        match self {
            Self::Fused(fused) => (fused.elements as u64).saturating_mul(fused.code.len() as u64),
            Self::Plain(plain) => match &plain.op {
                PlainOp::Dot(dot) => dot.flops(),
                PlainOp::Reduce(reduce) => reduce.flops(),
                PlainOp::Softmax(_)
                | PlainOp::ArgMax(_)
                | PlainOp::Take(_)
                | PlainOp::ScatterAdd(_) => 0,
            },
        }
    }

    /// Runs the kernel.
    ///
    /// # Safety
    /// Nothing else may use the values it writes, or write to those it reads, meanwhile.
    /// A written value shares bytes with another only as [`Fused`] allows.
    #[expect(unsafe_code, reason = "passes the planner's promise on")]
    pub(crate) unsafe fn run(&self, memory: Memory<'_>, workers: &Workers<'_>) {
        match self {
            // SAFETY: the caller's promise.
            Self::Fused(fused) => unsafe { fused.run(memory, workers) },
            Self::Plain(plain) => {
                // SAFETY: the caller's promise; the result shares no bytes with operands.
                let output = unsafe { memory.write_all(plain.result) };
                let mut inputs: [&[u8]; 3] = [&[]; 3];
                for (input, &operand) in inputs.iter_mut().zip(&plain.operands) {
                    // SAFETY: as above.
                    *input = unsafe { memory.read_all(operand) };
                }
                plain.op.run(inputs, output, workers);
            }
        }
    }
}

impl PlainOp {
    fn run(&self, inputs: [&[u8]; 3], output: &mut [u8], workers: &Workers<'_>) {
        let [first, second, _] = inputs;
        match self {
            Self::Reduce(reduce) => reduce.run(first, output, workers),
            Self::ArgMax(arg_max) => arg_max.run(first, output, workers),
            Self::Dot(dot) => dot.run(first, second, output, workers),
            Self::Softmax(softmax) => softmax.run(first, output, workers),
            Self::Take(take) => take.run(first, second, output, workers),
            Self::ScatterAdd(scatter) => scatter.run(inputs, output, workers),
        }
    }
}

/// Computes one element of an operation whose operands are all constant.
pub(crate) fn evaluate(
    op: TileOp,
    from: DType,
    to: DType,
    operands: [&[u8]; 3],
) -> crate::ir::Literal {
    let mut aligned = [[crate::tensor::Line::ZERO]; 3];
    for (aligned, operand) in aligned.iter_mut().zip(operands) {
        bytemuck::cast_slice_mut(aligned)[..operand.len()].copy_from_slice(operand);
    }
    let mut result = [crate::tensor::Line::ZERO];
    let result = &mut bytemuck::cast_slice_mut(&mut result)[..to.size()];
    let tiles = [0, 1, 2].map(|place: usize| tile::Tile {
        bytes: bytemuck::cast_slice(&aligned[place]),
        is_scalar: false,
    });
    tile::apply(op, from, to, tiles, result);
    crate::ir::Literal::new(to, result)
}
