//! Values of columns, and how they become elements of tensors.

use half::{bf16, f16};
use trainshed_tensor::DType;

/// The type of an array's elements in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementType {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    BF16,
    F32,
    F64,
}

impl ElementType {
    const ALL: [Self; 13] = [
        Self::Bool,
        Self::I8,
        Self::U8,
        Self::I16,
        Self::U16,
        Self::I32,
        Self::U32,
        Self::I64,
        Self::U64,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.name() == name)
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// The tensor type whose elements have the same bytes.
    fn same_bytes(self) -> Option<DType> {
        // A byte of a `bool` may be anything in a file.
        DType::parse(self.name()).filter(|_| self != Self::Bool)
    }

    /// The value of one element, whose little-endian bytes these are.
    pub(crate) fn read(self, bytes: &[u8]) -> Scalar {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let [a, b, c, d, ..] = word;
        match self {
            Self::Bool => Scalar::Integer(i64::from(a != 0)),
            Self::U8 => Scalar::Integer(a.into()),
            Self::I8 => Scalar::Integer(i8::from_le_bytes([a]).into()),
            Self::I16 => Scalar::Integer(i16::from_le_bytes([a, b]).into()),
            Self::U16 => Scalar::Integer(u16::from_le_bytes([a, b]).into()),
            Self::I32 => Scalar::Integer(i32::from_le_bytes([a, b, c, d]).into()),
            Self::U32 => Scalar::Integer(u32::from_le_bytes([a, b, c, d]).into()),
            Self::I64 => Scalar::Integer(i64::from_le_bytes(word)),
            Self::U64 => Scalar::Unsigned(u64::from_le_bytes(word)),
            Self::F16 => Scalar::Number(f16::from_le_bytes([a, b]).to_f64()),
            Self::BF16 => Scalar::Number(bf16::from_le_bytes([a, b]).to_f64()),
            Self::F32 => Scalar::Number(f32::from_le_bytes([a, b, c, d]).into()),
            Self::F64 => Scalar::Number(f64::from_le_bytes(word)),
        }
    }
}

/// What a source hands over of one row and column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    /// The file has no value there.
    Missing,
    /// As it is written in a text file, which has no types.
    Written(&'a [u8]),
    Text(&'a str),
    Scalar(Scalar),
    /// Elements of an array, from the element `first` of the row on.
    Elements {
        first: usize,
        of: ElementType,
        /// Little-endian.
        bytes: &'a [u8],
    },
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar {
    Integer(i64),
    /// One that does not fit 64 bits with a sign, or a smaller one.
    Unsigned(u64),
    Number(f64),
}

impl Scalar {
    /// Writes it, little-endian; false when `dtype` cannot hold it.
    ///
    /// Floating-point types round, but do not make an infinity of a number.
    pub(crate) fn write(self, dtype: DType, place: &mut [u8]) -> bool {
        match dtype {
            DType::F32 => {
                let value = self.to_f32();
                let overflows = value.is_infinite() && !self.is_infinite();
                place.copy_from_slice(&value.to_le_bytes());
                !overflows
            }
            DType::F64 => {
                place.copy_from_slice(&self.to_f64().to_le_bytes());
                true
            }
            DType::Bf16 => {
                let value = bf16::from_f32(to_odd_f32(self.to_f64()));
                place.copy_from_slice(&value.to_le_bytes());
                value.is_finite() || !self.to_f64().is_finite()
            }
            DType::F16 => {
                let value = f16::from_f32(to_odd_f32(self.to_f64()));
                place.copy_from_slice(&value.to_le_bytes());
                value.is_finite() || !self.to_f64().is_finite()
            }
            DType::I64 => self.put(place, i64::to_le_bytes),
            DType::I32 => self.put(place, i32::to_le_bytes),
            DType::U32 => self.put(place, u32::to_le_bytes),
            DType::U8 => self.put(place, u8::to_le_bytes),
            DType::Bool => {
                let flag = self.to_integer().filter(|value| (0..=1).contains(value));
                flag.is_some_and(|_| self.put(place, u8::to_le_bytes))
            }
        }
    }

    fn put<T: TryFrom<i64>, const N: usize>(
        self,
        place: &mut [u8],
        bytes: impl Fn(T) -> [u8; N],
    ) -> bool {
        let value = self.to_integer().and_then(|value| T::try_from(value).ok());
        value
            .map(|value| place.copy_from_slice(&bytes(value)))
            .is_some()
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "floating-point types round"
    )]
    fn to_f32(self) -> f32 {
        match self {
            Self::Integer(value) => value as f32,
            Self::Unsigned(value) => value as f32,
            Self::Number(value) => value as f32,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "floating-point types round")]
    fn to_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Unsigned(value) => value as f64,
            Self::Number(value) => value,
        }
    }

    fn is_infinite(self) -> bool {
        matches!(self, Self::Number(value) if value.is_infinite())
    }

    /// The whole number that it is, if it is one and fits.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the value has no fraction and is below 2^53"
    )]
    fn to_integer(self) -> Option<i64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Integer(value) => Some(value),
            Self::Unsigned(value) => i64::try_from(value).ok(),
            Self::Number(value) => {
                (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
            }
        }
    }
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(formatter),
            Self::Unsigned(value) => value.fmt(formatter),
            Self::Number(value) => value.fmt(formatter),
        }
    }
}

/// `value` rounded to odd: of the two neighbours of what `f32` cannot hold, the one whose last bit
/// is set. Rounding that to a half type gives what rounding `value` once would.
///
/// Source: S. Boldo, G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved
/// algorithms using rounding to odd", IEEE Transactions on Computers 57 (2008), section 3.
fn to_odd_f32(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "corrected below")]
    let nearest = value as f32;
    if value.is_nan() || f64::from(nearest) == value {
        return nearest;
    }
    let is_beyond = f64::from(nearest).abs() > value.abs();
    let towards_zero = nearest.to_bits() - u32::from(is_beyond);
    f32::from_bits(towards_zero | 1)
}

/// A number that is written in decimal; none for what Rust reads as `inf` or `nan`.
pub(crate) fn written_number(text: &str) -> Option<Scalar> {
    if let Ok(value) = text.parse() {
        return Some(Scalar::Integer(value));
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Scalar::Number(value))
}

/// Writes a value that is written in decimal; false when `dtype` cannot hold it.
pub(crate) fn write_written(field: &[u8], dtype: DType, place: &mut [u8]) -> bool {
    let Ok(text) = std::str::from_utf8(field).map(str::trim) else {
        return false;
    };
    if dtype == DType::F32 {
        // Rounded once, not by way of a wider type.
        let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
        return value
            .map(|value| place.copy_from_slice(&value.to_le_bytes()))
            .is_some();
    }
    written_number(text).is_some_and(|value| value.write(dtype, place))
}

/// Writes elements as `dtype` over `place`, which has room for as many; the first that `dtype`
/// cannot hold, with its position, otherwise.
pub(crate) fn write_elements(
    of: ElementType,
    bytes: &[u8],
    dtype: DType,
    place: &mut [u8],
) -> Result<(), (usize, Scalar)> {
    if of.same_bytes() == Some(dtype) {
        place.copy_from_slice(bytes);
        return Ok(());
    }
    let elements = bytes.chunks_exact(of.size());
    let places = place.chunks_exact_mut(dtype.size());
    for (index, (element, place)) in elements.zip(places).enumerate() {
        let value = of.read(element);
        if !value.write(dtype, place) {
            return Err((index, value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: Scalar, dtype: DType, expected: Option<&[u8]>) {
        let mut place = vec![0; dtype.size()];
        let written = value.write(dtype, &mut place);
        assert_eq!(written.then_some(&place[..]), expected);
    }

    #[test]
    fn integer_types_hold_whole_numbers_of_their_range_alone() {
        check(Scalar::Number(3.0), DType::U8, Some(&[3]));
        check(Scalar::Number(3.5), DType::U8, None);
        check(Scalar::Integer(256), DType::U8, None);
        check(Scalar::Integer(-1), DType::U32, None);
        check(Scalar::Integer(2), DType::Bool, None);
        check(Scalar::Unsigned(u64::MAX), DType::I64, None);
        check(Scalar::Number(1e300), DType::I64, None);
        check(Scalar::Number(f64::NAN), DType::I32, None);
        check(Scalar::Integer(-2), DType::I32, Some(&[254, 255, 255, 255]));
    }

    #[test]
    fn floating_point_types_round_but_do_not_overflow() {
        check(Scalar::Number(0.1), DType::F32, Some(&[205, 204, 204, 61]));
        check(Scalar::Number(1e39), DType::F32, None);
        check(
            Scalar::Number(f64::INFINITY),
            DType::F32,
            Some(&f32::INFINITY.to_le_bytes()),
        );
        check(Scalar::Number(65_520.0), DType::F16, None);
        check(Scalar::Number(1.5), DType::F16, Some(&[0, 0x3e]));
        check(Scalar::Number(-2.0), DType::Bf16, Some(&[0, 0xc0]));
        // A little more than half way between 1 and the next of the type.
        let more_than_half = |bits: i32| Scalar::Number(1.0 + 0.5_f64.powi(bits) + 1e-15);
        check(more_than_half(8), DType::Bf16, Some(&[0x81, 0x3f]));
        check(more_than_half(11), DType::F16, Some(&[0x01, 0x3c]));
        check(Scalar::Number(1e-60), DType::F16, Some(&[0, 0]));
        check(Scalar::Number(-1e300), DType::Bf16, None);
        check(
            Scalar::Number(0.1),
            DType::F64,
            Some(&0.1_f64.to_le_bytes()),
        );
        check(
            Scalar::Integer((1 << 24) + 1),
            DType::F32,
            Some(&16_777_216_f32.to_le_bytes()),
        );
    }

    #[test]
    fn every_element_type_is_read_as_it_was_written() {
        let minus_two: [(ElementType, &[u8]); 8] = [
            (ElementType::I8, &[254]),
            (ElementType::I16, &[254, 255]),
            (ElementType::I32, &(-2_i32).to_le_bytes()),
            (ElementType::I64, &(-2_i64).to_le_bytes()),
            (ElementType::F16, &f16::from_f32(-2.0).to_le_bytes()),
            (ElementType::BF16, &bf16::from_f32(-2.0).to_le_bytes()),
            (ElementType::F32, &(-2_f32).to_le_bytes()),
            (ElementType::F64, &(-2_f64).to_le_bytes()),
        ];
        for (of, bytes) in minus_two {
            let mut place = [0; 4];
            write_elements(of, bytes, DType::I32, &mut place).unwrap();
            assert_eq!(i32::from_le_bytes(place), -2, "{}", of.name());
        }
        for of in [
            ElementType::U8,
            ElementType::U16,
            ElementType::U32,
            ElementType::U64,
        ] {
            let bytes = [[200, 0], [0; 2], [0; 2], [0; 2]].concat();
            let mut place = [0; 4];
            write_elements(of, &bytes[..of.size()], DType::F32, &mut place).unwrap();
            assert_eq!(f32::from_le_bytes(place), 200.0, "{}", of.name());
        }
    }
}
