//! Estimates of what kernels cost, in floating-point operations.
//!
//! They are for people and for bounds: the order of magnitude counts. An operation on an
//! element counts as one, one that is a polynomial as about as many as that has terms, and
//! a word that is moved as one, because memory is no faster than that.

use super::{Fused, Instruction, Kernel, PlainOp, TileOp, ValueId};
use crate::ir::{Binary, Element, Unary};

/// Operations of a function that is a polynomial and some bits.
const FUNCTION: u64 = 16;

/// Operations of a random word: ten rounds of a block of four.
const RANDOM_WORD: u64 = 24;

/// Operations of a step by moments.
const MOMENTS: u64 = 15;

impl Kernel {
    /// Estimated floating-point operations of one run, given the bytes of each value.
    pub(crate) fn flops(&self, bytes: impl Fn(ValueId) -> usize) -> u64 {
        let plain = match self {
            Self::Fused(fused) => return fused.flops(),
            Self::Sweep(sweep) => {
                let [products, rest] = sweep.flops();
                return products.saturating_add(rest);
            }
            Self::Plain(plain) => plain,
        };
        let words = |values: &[ValueId]| -> u64 {
            let words = values.iter().map(|&value| bytes(value).div_ceil(4) as u64);
            words.fold(0, u64::saturating_add)
        };
        let results = words(&plain.results);
        let all = results.saturating_add(words(&plain.operands));
        match &plain.op {
            PlainOp::Dot(dot) => dot.flops(),
            PlainOp::Repeat(repeat) => repeat.flops(),
            PlainOp::Convolve(convolve) => convolve.flops(),
            PlainOp::Attention(attention) => attention.flops(),
            PlainOp::AttentionGradient(attention) => attention.flops(),
            PlainOp::Reduce(reduce) => reduce.flops(),
            PlainOp::MaxPool(pool) => all.saturating_mul(pool.taps()),
            PlainOp::Average(pool) => all.saturating_mul(pool.taps()),
            PlainOp::Softmax(_) => results.saturating_mul(2 * FUNCTION),
            PlainOp::Norm(_) | PlainOp::BatchNorm(_) => all.saturating_mul(3),
            PlainOp::NormGradient(_) | PlainOp::BatchNormGradient(_) => all.saturating_mul(5),
            PlainOp::Order(order) => all.saturating_mul(order.depth()),
            // What is not taken of a table costs nothing.
            PlainOp::Take(_) | PlainOp::TakeAlong(_) | PlainOp::Assemble(_) => results,
            PlainOp::ArgMax(_)
            | PlainOp::ScatterAdd(_)
            | PlainOp::ScatterSet(_)
            | PlainOp::ScatterAddAlong(_)
            | PlainOp::Running(_) => all,
            PlainOp::RandomFold => RANDOM_WORD,
        }
    }
}

/// Multiplications and additions of a product that a thread does in a nanosecond, about.
const PRODUCT_SPEED: u64 = 32;

/// What everything else does.
const SPEED: u64 = 2;

impl Kernel {
    /// About how long one run of so many operations takes on one thread.
    pub(crate) fn nanoseconds(&self, flops: u64) -> u64 {
        match self {
            Self::Plain(plain) => match &plain.op {
                PlainOp::Dot(_)
                | PlainOp::Convolve(_)
                | PlainOp::Attention(_)
                | PlainOp::AttentionGradient(_) => flops / PRODUCT_SPEED,
                PlainOp::Repeat(repeat) => repeat.nanoseconds(),
                _ => flops / SPEED,
            },
            Self::Sweep(sweep) => {
                let [products, rest] = sweep.flops();
                (products / PRODUCT_SPEED).saturating_add(rest / SPEED)
            }
            Self::Fused(_) => flops / SPEED,
        }
    }
}

impl Fused {
    pub(super) fn flops(&self) -> u64 {
        (self.elements as u64).saturating_mul(self.flops_per_element())
    }

    pub(super) fn flops_per_element(&self) -> u64 {
        let moments = if self.moments.is_some() { MOMENTS } else { 0 };
        self.code.iter().map(instruction).sum::<u64>() + moments
    }
}

/// Per element; a kernel has not so many instructions that their sum could overflow.
fn instruction(instruction: &Instruction) -> u64 {
    match instruction {
        Instruction::Gather { .. } | Instruction::Iota { .. } => 1,
        Instruction::Random { .. } => RANDOM_WORD,
        Instruction::Apply { op, .. } => match op {
            TileOp::Element(Element::Unary(unary)) => match unary {
                Unary::Negate
                | Unary::Abs
                | Unary::Sign
                | Unary::Square
                | Unary::Sqrt
                | Unary::Floor
                | Unary::Ceil
                | Unary::Round => 1,
                Unary::Rsqrt => 2,
                Unary::Exp
                | Unary::Expm1
                | Unary::Log
                | Unary::Log1p
                | Unary::Sin
                | Unary::Cos
                | Unary::Tanh
                | Unary::Sigmoid
                | Unary::Erf => FUNCTION,
            },
            TileOp::Element(Element::Binary(Binary::Power | Binary::Atan2)) => 2 * FUNCTION,
            TileOp::Element(Element::Binary(Binary::Remainder)) => FUNCTION,
            TileOp::MultiplyAdd
            | TileOp::MultiplySubtract
            | TileOp::SubtractProduct
            | TileOp::AddSubtract => 2,
            TileOp::SumOfProducts | TileOp::MultiplyRootAdd | TileOp::SubtractQuotientProduct => 3,
            TileOp::SumWithSquare => 4,
            TileOp::RoundedSumOfProducts => 5,
            TileOp::Copy | TileOp::Element(_) => 1,
        },
    }
}
