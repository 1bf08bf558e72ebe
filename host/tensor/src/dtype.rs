use std::fmt;

use crate::cpu::{TileOp, evaluate};
use crate::ir::Element;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// The upper half of a single-precision number: 8 bits of exponent, 7 of fraction.
    Bf16,
    /// IEEE 754 half precision.
    F16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 32 bits.
    U32,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// Every element type.
    pub const ALL: [Self; 9] = [
        Self::F32,
        Self::F64,
        Self::Bf16,
        Self::F16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U32,
        Self::Bool,
    ];

    /// The name that programs use, e.g. `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U32 => "u32",
            Self::Bool => "bool",
        }
    }

    /// The element type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::Bool => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Writes a number as an element: rounded to nearest for floats, truncated and
    /// saturated for integers, 0 for NaN there.
    ///
    /// # Panics
    /// When `element` is shorter than one.
    pub fn write(self, number: f64, element: &mut [u8]) {
        let convert = TileOp::Element(Element::Convert);
        let number = number.to_le_bytes();
        let literal = evaluate(convert, Self::F64, self, [&number, &[], &[]]);
        element[..self.size()].copy_from_slice(literal.element());
    }

    /// Whether it holds numbers with a fraction.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::Bf16 | Self::F16)
    }

    pub(crate) fn is_number(self) -> bool {
        self != Self::Bool
    }

    pub(crate) fn is_integer(self) -> bool {
        self.is_number() && !self.is_float()
    }

    /// The type that operations compute in: `f32` for the half types, which only store.
    pub(crate) fn wide(self) -> Self {
        match self {
            Self::Bf16 | Self::F16 => Self::F32,
            other => other,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
