//! Shapes and tensor types. A [`TensorType`] exists only if its size in bytes is
//! representable, so nothing that holds one has to think about overflow again.

use std::fmt;
use std::ops::Deref;

use crate::DType;

/// The highest rank of a tensor.
pub(crate) const MAX_RANK: usize = 8;

/// The largest dimension.
pub(crate) const MAX_DIMENSION: usize = (1 << 31) - 1;

/// The most bytes that one tensor may have: 1 TiB, so that sums over a whole program fit `u64`.
pub(crate) const MAX_TENSOR_BYTES: usize = 1 << 40;

/// Up to [`MAX_RANK`] numbers without an allocation: a shape, axes, or strides in elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Dims {
    length: u8,
    values: [usize; MAX_RANK],
}

impl Dims {
    /// `None` when there are more than [`MAX_RANK`] numbers.
    pub(crate) fn new(values: &[usize]) -> Option<Self> {
        let mut dims = Self {
            length: u8::try_from(values.len()).ok()?,
            values: [0; MAX_RANK],
        };
        dims.values.get_mut(..values.len())?.copy_from_slice(values);
        Some(dims)
    }

    /// The first [`MAX_RANK`] of `values`; callers know that there are no more.
    pub(crate) fn collect(values: impl IntoIterator<Item = usize>) -> Self {
        let mut dims = Self::default();
        for value in values {
            dims.push(value);
        }
        dims
    }

    /// Appends a number.
    ///
    /// # Panics
    /// When there are [`MAX_RANK`] already: shape rules have excluded that.
    pub(crate) fn push(&mut self, value: usize) {
        self.values[usize::from(self.length)] = value;
        self.length += 1;
    }

    /// The product; saturates, because strides of an empty shape may not fit.
    pub(crate) fn product(&self) -> usize {
        if self.contains(&0) {
            return 0;
        }
        self.iter().fold(1, |product: usize, &dimension| {
            product.saturating_mul(dimension)
        })
    }

    /// Strides of a row-major array of this shape.
    pub(crate) fn row_major_strides(&self) -> Self {
        let mut strides = *self;
        let mut stride: usize = 1;
        for axis in (0..self.len()).rev() {
            strides.values[axis] = stride;
            stride = stride.saturating_mul(self.values[axis]);
        }
        strides
    }

    pub(crate) fn without(&self, axes: &[usize]) -> Self {
        Self::collect(
            self.iter()
                .enumerate()
                .filter(|(axis, _)| !axes.contains(axis))
                .map(|(_, &dimension)| dimension),
        )
    }

    pub(crate) fn to_attribute(self) -> Vec<i64> {
        self.iter()
            .map(|&value| i64::try_from(value).unwrap_or(i64::MAX))
            .collect()
    }
}

impl Deref for Dims {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.values[..usize::from(self.length)]
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}

/// Element type and shape of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TensorType {
    pub(crate) dtype: DType,
    pub(crate) shape: Dims,
}

impl TensorType {
    /// Checks rank, dimensions and size in bytes; the error is a sentence about them.
    pub(crate) fn new(dtype: DType, shape: &[usize]) -> Result<Self, String> {
        let Some(dims) = Dims::new(shape) else {
            return Err(format!(
                "the rank is {}, but it may be at most {MAX_RANK}",
                shape.len()
            ));
        };
        if let Some(dimension) = shape.iter().find(|&&dimension| dimension > MAX_DIMENSION) {
            return Err(format!(
                "a dimension is {dimension}, but it may be at most {MAX_DIMENSION}"
            ));
        }
        // With a dimension of 0 the product is 0, whatever the others are.
        let bytes = dims.product().checked_mul(dtype.size());
        if bytes.is_none_or(|bytes| bytes > MAX_TENSOR_BYTES) {
            return Err(format!(
                "a tensor {dtype}{dims:?} is larger than {MAX_TENSOR_BYTES} bytes"
            ));
        }
        Ok(Self { dtype, shape: dims })
    }

    /// The same shape in the type that is computed in. That is at most twice the bytes, which
    /// are representable still.
    pub(crate) fn widened(&self) -> Self {
        Self {
            dtype: self.dtype.wide(),
            shape: self.shape,
        }
    }

    pub(crate) fn elements(&self) -> usize {
        self.shape.product()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{:?}", self.dtype, self.shape)
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
