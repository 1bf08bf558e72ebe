//! Elementwise operations on one tile: a few hundred elements that stay in the L1 cache.
//!
//! [`apply`] is inlined into a function per instruction set, so that the loops over `f32`
//! use the widest vectors the machine has. The other types are rare: their loops are
//! compiled once, for the baseline.

use bytemuck::Pod;

use super::math;
use super::number::{Number, with_number};
use crate::DType;
use crate::ir::{Binary, Compare, Element, Logic, Unary};

/// What is done with the elements of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TileOp {
    Copy,
    Element(Element),
    /// `a * b + c`, rounded twice.
    MultiplyAdd,
    /// `a * b - c`, rounded twice.
    MultiplySubtract,
    /// `c - a * b`, rounded twice.
    SubtractProduct,
}

/// Computes `out` from tiles of at least as many elements; `from` is the operands' type (that of
/// the chosen ones for a select), `to` the result's.
#[inline(always)]
pub(super) fn apply(op: TileOp, from: DType, to: DType, [a, b, c]: [Tile<'_>; 3], out: &mut [u8]) {
    match (op, from) {
        (TileOp::Copy, _) => match to.size() {
            1 => map1(a, out, |x: u8| x),
            4 => map1(a, out, |x: u32| x),
            _ => map1(a, out, |x: u64| x),
        },
        (TileOp::MultiplyAdd, _) => map3([a, b, c], out, |a: f32, b: f32, c: f32| a * b + c),
        (TileOp::MultiplySubtract, _) => map3([a, b, c], out, |a: f32, b: f32, c: f32| a * b - c),
        (TileOp::SubtractProduct, _) => map3([a, b, c], out, |a: f32, b: f32, c: f32| c - a * b),
        (TileOp::Element(Element::Unary(kind)), DType::F32) => float_unary(kind, a, out),
        (TileOp::Element(Element::Binary(kind)), DType::F32) => float_binary(kind, a, b, out),
        (TileOp::Element(Element::Compare(kind)), DType::F32) => compare::<f32>(kind, a, b, out),
        (TileOp::Element(Element::Select), DType::F32) => select::<f32>(a, b, c, out),
        (TileOp::Element(Element::Convert), DType::Bool) if to == DType::F32 => {
            map1(a, out, |x: u8| f32::from(x));
        }
        (TileOp::Element(op), _) => apply_rare(op, from, to, [a, b, c], out),
    }
}

#[inline(never)]
fn apply_rare(op: Element, from: DType, to: DType, [a, b, c]: [Tile<'_>; 3], out: &mut [u8]) {
    match op {
        Element::Unary(kind) => with_number!(from, T => number_unary::<T>(kind, a, out)),
        Element::Binary(kind) => with_number!(from, T => number_binary::<T>(kind, a, b, out)),
        Element::Compare(kind) => with_number!(from, T => compare::<T>(kind, a, b, out)),
        Element::Logic(Logic::And) => map2(a, b, out, |a: u8, b: u8| a & b),
        Element::Logic(Logic::Or) => map2(a, b, out, |a: u8, b: u8| a | b),
        Element::Logic(Logic::Xor) => map2(a, b, out, |a: u8, b: u8| a ^ b),
        Element::Not => map1(a, out, |a: u8| a ^ 1),
        Element::Select => match from.size() {
            1 => select::<u8>(a, b, c, out),
            4 => select::<u32>(a, b, c, out),
            _ => select::<u64>(a, b, c, out),
        },
        Element::Convert => with_number!(from, From => convert::<From>(to, a, out)),
    }
}

#[inline(always)]
fn float_unary(kind: Unary, a: Tile<'_>, out: &mut [u8]) {
    match kind {
        Unary::Negate => map1(a, out, |x: f32| -x),
        Unary::Abs => map1(a, out, f32::abs),
        Unary::Sign => map1(a, out, <f32 as Number>::sign),
        Unary::Square => map1(a, out, |x: f32| x * x),
        Unary::Exp => map1(a, out, math::exp),
        Unary::Log => map1(a, out, math::log),
        Unary::Sqrt => map1(a, out, f32::sqrt),
        Unary::Rsqrt => map1(a, out, |x: f32| 1.0 / x.sqrt()),
        Unary::Tanh => map1(a, out, math::tanh),
        Unary::Sigmoid => map1(a, out, math::sigmoid),
    }
}

#[inline(always)]
fn float_binary(kind: Binary, a: Tile<'_>, b: Tile<'_>, out: &mut [u8]) {
    match kind {
        Binary::Add => map2(a, b, out, |a: f32, b: f32| a + b),
        Binary::Subtract => map2(a, b, out, |a: f32, b: f32| a - b),
        Binary::Multiply => map2(a, b, out, |a: f32, b: f32| a * b),
        Binary::Divide => map2(a, b, out, |a: f32, b: f32| a / b),
        Binary::Maximum => map2(a, b, out, <f32 as Number>::maximum),
        Binary::Minimum => map2(a, b, out, <f32 as Number>::minimum),
        Binary::Power => map2(a, b, out, f32::powf),
        Binary::Remainder => map2(a, b, out, <f32 as Number>::remainder),
    }
}

/// Integers only; the other operations are not defined for them.
fn number_unary<T: Number>(kind: Unary, a: Tile<'_>, out: &mut [u8]) {
    match kind {
        Unary::Negate => map1(a, out, T::negate),
        Unary::Abs => map1(a, out, T::absolute),
        Unary::Sign => map1(a, out, T::sign),
        Unary::Square => map1(a, out, |x: T| x.multiply(x)),
        Unary::Exp | Unary::Log | Unary::Sqrt | Unary::Rsqrt | Unary::Tanh | Unary::Sigmoid => {
            unreachable!("the check lets only floats through")
        }
    }
}

/// Integers only; `power` is not defined for them.
fn number_binary<T: Number>(kind: Binary, a: Tile<'_>, b: Tile<'_>, out: &mut [u8]) {
    match kind {
        Binary::Add => map2(a, b, out, T::add),
        Binary::Subtract => map2(a, b, out, T::subtract),
        Binary::Multiply => map2(a, b, out, T::multiply),
        Binary::Divide => map2(a, b, out, T::divide),
        Binary::Maximum => map2(a, b, out, T::maximum),
        Binary::Minimum => map2(a, b, out, T::minimum),
        Binary::Remainder => map2(a, b, out, T::remainder),
        Binary::Power => unreachable!("the check lets only floats through"),
    }
}

#[inline(always)]
fn compare<T: Number>(kind: Compare, a: Tile<'_>, b: Tile<'_>, out: &mut [u8]) {
    match kind {
        Compare::Equal => map2(a, b, out, |a: T, b: T| u8::from(a == b)),
        Compare::NotEqual => map2(a, b, out, |a: T, b: T| u8::from(a != b)),
        Compare::Less => map2(a, b, out, |a: T, b: T| u8::from(a < b)),
        Compare::LessEqual => map2(a, b, out, |a: T, b: T| u8::from(a <= b)),
        Compare::Greater => map2(a, b, out, |a: T, b: T| u8::from(a > b)),
        Compare::GreaterEqual => map2(a, b, out, |a: T, b: T| u8::from(a >= b)),
    }
}

#[inline(always)]
fn select<T: Pod>(condition: Tile<'_>, chosen: Tile<'_>, other: Tile<'_>, out: &mut [u8]) {
    map3(
        [condition, chosen, other],
        out,
        |c: u8, a: T, b: T| {
            if c == 0 { b } else { a }
        },
    );
}

fn convert<From: Number>(to: DType, a: Tile<'_>, out: &mut [u8]) {
    match to {
        DType::Bool => map1(a, out, |x: From| u8::from(x != From::ZERO)),
        DType::F32 => map1(a, out, From::to_f32),
        DType::I32 => convert_to::<From, i32>(a, out),
        DType::I64 => convert_to::<From, i64>(a, out),
        DType::U8 => convert_to::<From, u8>(a, out),
        DType::U32 => convert_to::<From, u32>(a, out),
    }
}

fn convert_to<From: Number, To: Number>(a: Tile<'_>, out: &mut [u8]) {
    if From::IS_FLOAT {
        map1(a, out, |x: From| To::from_f32(x.to_f32()));
    } else {
        map1(a, out, |x: From| To::from_i64(x.to_i64()));
    }
}

/// Writes the indexes along one axis, for the elements from `start` of an array in which
/// that axis has `size` steps of `inner` elements.
pub(super) fn iota(dtype: DType, start: usize, inner: usize, size: usize, out: &mut [u8]) {
    with_number!(dtype, T => iota_of::<T>(start, inner, size, out));
}

fn iota_of<T: Number>(start: usize, inner: usize, size: usize, out: &mut [u8]) {
    let mut within = start % inner;
    let mut index = (start / inner) % size;
    for element in bytemuck::cast_slice_mut::<u8, T>(out) {
        // Dimensions are below 2^31.
        *element = T::from_i64(i64::try_from(index).unwrap_or(0));
        within += 1;
        if within == inner {
            within = 0;
            index += 1;
            if index == size {
                index = 0;
            }
        }
    }
}

/// An operand's elements: at least as many as the result has.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) bytes: &'a [u8],
    /// Every element is the same, so a loop may keep the first one in a register.
    pub(super) is_scalar: bool,
}

impl<'a> Tile<'a> {
    #[inline(always)]
    fn elements<T: Pod>(self, count: usize) -> &'a [T] {
        &bytemuck::cast_slice(self.bytes)[..count]
    }
}

#[inline(always)]
fn map1<A: Pod, R: Pod>(a: Tile<'_>, out: &mut [u8], f: impl Fn(A) -> R) {
    let out: &mut [R] = bytemuck::cast_slice_mut(out);
    let a = a.elements(out.len());
    for (out, &a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
}

#[inline(always)]
fn map2<A: Pod, B: Pod, R: Pod>(a: Tile<'_>, b: Tile<'_>, out: &mut [u8], f: impl Fn(A, B) -> R) {
    let count = out.len() / size_of::<R>();
    match (a.is_scalar, b.is_scalar, count) {
        (_, _, 0) => {}
        (true, false, _) => {
            let a: A = a.elements(count)[0];
            map1(b, out, |b: B| f(a, b));
        }
        (false, true, _) => {
            let b: B = b.elements(count)[0];
            map1(a, out, |a: A| f(a, b));
        }
        _ => {
            let out: &mut [R] = bytemuck::cast_slice_mut(out);
            let (a, b) = (a.elements(count), b.elements(count));
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *out = f(a, b);
            }
        }
    }
}

#[inline(always)]
fn map3<A: Pod, B: Pod, C: Pod, R: Pod>(
    [a, b, c]: [Tile<'_>; 3],
    out: &mut [u8],
    f: impl Fn(A, B, C) -> R,
) {
    let count = out.len() / size_of::<R>();
    if b.is_scalar && count > 0 {
        let b: B = b.elements(count)[0];
        return map2(a, c, out, |a: A, c: C| f(a, b, c));
    }
    let out: &mut [R] = bytemuck::cast_slice_mut(out);
    let (a, b, c) = (a.elements(count), b.elements(count), c.elements(count));
    for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = f(a, b, c);
    }
}
