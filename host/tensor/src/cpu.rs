//! The executor for host processors: kernels, and the memory and threads they run on.
//!
//! A [`Kernel`] is made by the planner from checked shapes. Kernels cannot fail; bounds
//! are asserted all the same.

mod assemble;
mod attention;
mod batch_norm;
mod convolution;
mod cost;
mod cumulative;
mod dot;
mod fused;
mod halves;
mod index;
mod math;
mod matrix_vector;
mod memory;
mod moments;
mod norm;
mod number;
mod order;
mod philox;
mod pool;
mod product;
mod reduce;
mod repeat;
mod shared;
mod softmax;
mod square;
mod sweep;
mod tile;
mod vector;
mod winograd;
mod workers;

pub(crate) use assemble::{Assemble, Part, Shift, Shifted};
pub(crate) use attention::{Attention, AttentionGradient};
pub(crate) use batch_norm::{BatchNorm, BatchNormGradient};
pub(crate) use convolution::Convolve;
pub(crate) use cumulative::Running;
pub(crate) use dot::Dot;
pub(crate) use fused::{
    Fused, Instruction, Load, MomentStep, Operand, Scalar, ScalarSource, Store,
};
pub(crate) use index::{ScatterAdd, ScatterAddAlong, ScatterSet, Slices, Take, TakeAlong};
pub(crate) use memory::{Memory, Region, ValueId};
pub(crate) use moments::Moments;
pub(crate) use norm::{Norm, NormGradient};
pub(crate) use order::Order;
pub(crate) use pool::{Average, MaxPool};
pub(crate) use reduce::{ArgMax, Reduce};
pub(crate) use repeat::{Repeat, Steps};
pub(crate) use softmax::Softmax;
pub(crate) use sweep::Sweep;
pub(crate) use tile::{MOST_OPERANDS, TileOp};
pub(crate) use workers::{Helpers, Workers};

use smallvec::SmallVec;

use crate::DType;

/// One step of a compiled program.
#[derive(Debug)]
pub(crate) enum Kernel {
    Fused(Fused),
    Plain(Box<Plain>),
    Sweep(Box<Sweep>),
}

/// A kernel that reads whole operands and writes results that share no bytes with them or
/// each other. Values without elements are empty slices.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) op: PlainOp,
    pub(crate) operands: Vec<ValueId>,
    pub(crate) results: Vec<ValueId>,
}

#[derive(Debug)]
pub(crate) enum PlainOp {
    Reduce(Reduce),
    ArgMax(ArgMax),
    Dot(Dot),
    Softmax(Softmax),
    Take(Take),
    TakeAlong(TakeAlong),
    ScatterAdd(ScatterAdd),
    Repeat(Box<Repeat>),
    Convolve(Convolve),
    MaxPool(MaxPool),
    Average(Average),
    Norm(Norm),
    NormGradient(NormGradient),
    BatchNorm(BatchNorm),
    BatchNormGradient(BatchNormGradient),
    Attention(Attention),
    AttentionGradient(AttentionGradient),
    ScatterSet(ScatterSet),
    ScatterAddAlong(ScatterAddAlong),
    Assemble(Assemble),
    Running(Running),
    /// The last result is a workspace.
    Order(Order),
    /// A key and a number to a new key.
    RandomFold,
}

impl Kernel {
    /// The values that the kernel reads; one may be named twice.
    pub(crate) fn reads(&self) -> Vec<ValueId> {
        match self {
            Self::Fused(fused) => fused.reads(),
            Self::Plain(plain) => plain.operands.clone(),
            Self::Sweep(sweep) => sweep.reads(),
        }
    }

    /// The values that the kernel writes.
    pub(crate) fn writes(&self) -> Vec<ValueId> {
        match self {
            Self::Fused(fused) => fused.writes(),
            Self::Plain(plain) => plain.results.clone(),
            Self::Sweep(sweep) => sweep.writes(),
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
            // SAFETY: the caller's promise.
            Self::Sweep(sweep) => unsafe { sweep.run(memory, workers) },
            Self::Plain(plain) => {
                // SAFETY: the caller's promise; results share no bytes with operands or
                // each other.
                let inputs: SmallVec<[&[u8]; 4]> = plain
                    .operands
                    .iter()
                    .map(|&operand| unsafe { memory.read_all(operand) })
                    .collect();
                let mut outputs: SmallVec<[&mut [u8]; 2]> = plain
                    .results
                    .iter()
                    .map(|&result| unsafe { memory.write_all(result) })
                    .collect();
                plain.op.run(&inputs, &mut outputs, workers);
            }
        }
    }
}

impl PlainOp {
    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], workers: &Workers<'_>) {
        match (self, inputs, outputs) {
            (Self::Reduce(reduce), [x], [y]) => reduce.run(x, y, workers),
            (Self::ArgMax(arg_max), [x], [y]) => arg_max.run(x, y, workers),
            (Self::Dot(dot), [lhs, rhs], [y]) => dot.run(lhs, rhs, y, workers),
            (Self::Softmax(softmax), [x], [y]) => softmax.run(x, y, workers),
            (Self::Take(take), [data, indices], [y]) => take.run(data, indices, y, workers),
            (Self::TakeAlong(take), [data, indices], [y]) => take.run(data, indices, y, workers),
            (Self::ScatterAdd(scatter), inputs, [y]) => scatter.run(inputs, y, workers),
            (Self::ScatterSet(scatter), inputs, [y]) => scatter.run(inputs, y, workers),
            (Self::ScatterAddAlong(scatter), inputs, [y]) => scatter.run(inputs, y, workers),
            (Self::Assemble(assemble), inputs, [y]) => assemble.run(inputs, y, workers),
            (Self::Running(running), [x], [y]) => running.run(x, y, workers),
            (Self::Order(order), [x], [values, positions, workspace]) => {
                order.run(x, values, positions, workspace, workers);
            }
            (Self::Repeat(repeat), inputs, outputs) => repeat.run(inputs, outputs, workers),
            (Self::Convolve(convolve), &[first, second], [result, scratch @ ..]) => {
                let scratch = scratch.first_mut().map_or(&mut [][..], |all| &mut **all);
                convolve.run([first, second], result, scratch, workers);
            }
            (Self::MaxPool(pool), [x], [values, positions]) => {
                pool.run(x, values, positions, workers);
            }
            (Self::Average(average), [from], [to]) => average.run(from, to, workers),
            (Self::Norm(norm), operands, [y]) => norm.run(operands, y, workers),
            (Self::NormGradient(gradient), &[x, scale, up], results) => {
                gradient.run([x, scale, up], results, workers);
            }
            (Self::BatchNorm(norm), &[x, scale, shift], [y, mean, variance]) => {
                norm.run([x, scale, shift], [y, mean, variance], workers);
            }
            (Self::BatchNormGradient(gradient), &[x, scale, up], [by_x, by_scale, by_shift]) => {
                gradient.run([x, scale, up], [by_x, by_scale, by_shift], workers);
            }
            (Self::Attention(attention), operands, [y, logs]) => {
                attention.run(operands, [y, logs], workers);
            }
            (Self::AttentionGradient(gradient), operands, [by_q, by_k, by_v]) => {
                gradient.run(operands, [by_q, by_k, by_v], workers);
            }
            (Self::RandomFold, [key, number], [y]) => philox::fold(key, number, y),
            _ => unreachable!("the planner gives each kernel its operands and results"),
        }
    }
}

/// Computes one element of an operation whose operands are all constant, as a kernel would.
pub(crate) fn evaluate(
    op: TileOp,
    from: DType,
    to: DType,
    operands: [&[u8]; 3],
) -> crate::ir::Literal {
    if op.computes() && from != from.wide() {
        let convert = TileOp::Element(crate::ir::Element::Convert);
        let widened = operands.map(|operand| match operand {
            [] => None,
            element => Some(evaluate(convert, from, from.wide(), [element, &[], &[]])),
        });
        let mut elements: [&[u8]; 3] = [&[]; 3];
        for (element, literal) in elements.iter_mut().zip(&widened) {
            *element = literal
                .as_ref()
                .map_or(&[][..], |literal| literal.element());
        }
        let result = evaluate(op, from.wide(), to.wide(), elements);
        return evaluate(convert, to.wide(), to, [result.element(), &[], &[]]);
    }
    let mut aligned = [[crate::tensor::Line::ZERO]; MOST_OPERANDS];
    for (aligned, operand) in aligned.iter_mut().zip(operands) {
        bytemuck::cast_slice_mut(aligned)[..operand.len()].copy_from_slice(operand);
    }
    let mut result = [crate::tensor::Line::ZERO];
    let result = &mut bytemuck::cast_slice_mut(&mut result)[..to.size()];
    let tiles = aligned.each_ref().map(|element| tile::Tile {
        bytes: bytemuck::cast_slice(element),
        is_scalar: false,
    });
    tile::apply(op, from, to, tiles, result);
    crate::ir::Literal::new(to, result)
}
