//! Arrays that live in the host.

use std::fmt;

use crate::ProgramError;
use crate::bindings::imports::trainshed::plugin::compute as raw;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// The upper half of an `f32`: its range with 8 bits of precision.
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

/// A Rust type that is an element of tensors.
pub trait Element: Copy {
    /// The element type it is.
    const DTYPE: DType;

    /// Appends its little-endian bytes.
    fn put(self, bytes: &mut Vec<u8>);

    /// Reads it from as many bytes as it has.
    fn get(bytes: &[u8]) -> Self;
}

/// An immutable array in host memory, row-major, of rank 0 to 8.
#[derive(Debug)]
pub struct Tensor {
    raw: raw::Tensor,
}

impl DType {
    const ALL: [Self; 9] = [
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

    /// Its name, e.g. `f32`.
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

    /// Whether its elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::Bf16 | Self::F16)
    }

    /// Whether its elements are whole numbers; `bool` is none.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::I32 | Self::I64 | Self::U8 | Self::U32)
    }

    /// Whether its elements may be indices of other tensors.
    pub fn is_index(self) -> bool {
        matches!(self, Self::I32 | Self::I64 | Self::U32)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Tensor {
    pub(crate) fn from_raw(raw: raw::Tensor) -> Self {
        Self { raw }
    }

    pub(crate) fn raw(&self) -> &raw::Tensor {
        &self.raw
    }

    /// Makes a tensor of `elements` in row-major order.
    ///
    /// # Errors
    /// When `shape` does not have as many elements, or memory is used up.
    pub fn from_slice<T: Element>(shape: &[usize], elements: &[T]) -> Result<Self, ProgramError> {
        Self::from_bytes(T::DTYPE, shape, &bytes_of(elements))
    }

    /// Makes a tensor of little-endian elements in row-major order.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn from_bytes(dtype: DType, shape: &[usize], data: &[u8]) -> Result<Self, ProgramError> {
        let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        let raw = raw::Tensor::create(dtype.name(), &shape, data)?;
        Ok(Self { raw })
    }

    /// Makes a tensor of rank 0.
    ///
    /// # Errors
    /// When memory is used up.
    pub fn scalar<T: Element>(element: T) -> Result<Self, ProgramError> {
        Self::from_slice(&[], &[element])
    }

    /// Makes a tensor whose elements all are 0, or false.
    ///
    /// # Errors
    /// When the elements cannot be counted, or memory is used up.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Self, ProgramError> {
        let size = element_count(shape).and_then(|count| count.checked_mul(dtype.size()));
        let size = size.ok_or_else(|| {
            ProgramError::InvalidArgument(format!("a tensor of shape {shape:?} is too large"))
        })?;
        Self::from_bytes(dtype, shape, &vec![0; size])
    }

    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        let name = self.raw.dtype();
        DType::parse(&name).expect("a tensor has an element type that the plugin asked for")
    }

    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        shape_from_host(&self.raw.shape())
    }

    /// Copies all elements into the plugin's memory.
    ///
    /// # Errors
    /// When the elements are not `T`s.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, ProgramError> {
        let found = self.dtype();
        if found != T::DTYPE {
            let wanted = T::DTYPE;
            return Err(ProgramError::InvalidArgument(format!(
                "the tensor's elements are {found}, but {wanted} was asked for"
            )));
        }
        let bytes = self.raw.read();
        Ok(bytes.chunks_exact(found.size()).map(T::get).collect())
    }

    /// Copies all elements into the plugin's memory, each as the nearest `f64`; a `bool` is
    /// 0 or 1.
    ///
    /// # Errors
    /// When the elements are `bf16` or `f16`, which a program can convert.
    pub fn to_f64s(&self) -> Result<Vec<f64>, ProgramError> {
        fn widened<T: Element>(
            tensor: &Tensor,
            widen: fn(T) -> f64,
        ) -> Result<Vec<f64>, ProgramError> {
            Ok(tensor.to_vec::<T>()?.into_iter().map(widen).collect())
        }
        match self.dtype() {
            DType::F32 => widened::<f32>(self, f64::from),
            DType::F64 => self.to_vec(),
            DType::I32 => widened::<i32>(self, f64::from),
            #[expect(clippy::cast_precision_loss, reason = "said so in the doc")]
            DType::I64 => widened::<i64>(self, |element| element as f64),
            DType::U8 => widened::<u8>(self, f64::from),
            DType::U32 => widened::<u32>(self, f64::from),
            DType::Bool => widened::<bool>(self, f64::from),
            dtype @ (DType::Bf16 | DType::F16) => Err(ProgramError::InvalidArgument(format!(
                "elements of {dtype} cannot be read as numbers; convert them to f32 in a program"
            ))),
        }
    }

    /// The element of a tensor that has just one, as a number; NaN otherwise.
    pub fn item(&self) -> f64 {
        self.raw.item()
    }
}

/// The little-endian bytes of `elements`.
pub(crate) fn bytes_of<T: Element>(elements: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(elements.len() * T::DTYPE.size());
    for element in elements {
        element.put(&mut bytes);
    }
    bytes
}

/// How many elements a shape has; none when they cannot be counted.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    let mut sizes = shape.iter();
    sizes.try_fold(1usize, |count, &size| count.checked_mul(size))
}

/// A dimension of the host is at most 2^31 - 1, so it fits the plugin's `usize`.
pub(crate) fn shape_from_host(shape: &[u64]) -> Vec<usize> {
    let sizes = shape.iter();
    sizes
        .map(|&size| usize::try_from(size).unwrap_or(usize::MAX))
        .collect()
}

macro_rules! number_element {
    ($type:ty, $dtype:expr) => {
        impl Element for $type {
            const DTYPE: DType = $dtype;

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }

            fn get(bytes: &[u8]) -> Self {
                let bytes = bytes.try_into().expect("one element's bytes");
                Self::from_le_bytes(bytes)
            }
        }
    };
}

number_element!(f32, DType::F32);
number_element!(f64, DType::F64);
number_element!(i32, DType::I32);
number_element!(i64, DType::I64);
number_element!(u8, DType::U8);
number_element!(u32, DType::U32);

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }

    fn get(bytes: &[u8]) -> Self {
        bytes != [0]
    }
}
