use std::fmt;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::budget::Charge;
use crate::shape::TensorType;
use crate::{Budget, DType, ProgramError};

/// One cache line; storage is made of these, so every tensor starts on a 64-byte boundary.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

impl Line {
    pub(crate) const BYTES: usize = 64;
    pub(crate) const ZERO: Self = Self([0; Self::BYTES]);
}

/// Zeroed memory that is charged to a budget while it lives.
pub(crate) struct Storage {
    lines: Vec<Line>,
    _charge: Charge,
}

impl Storage {
    /// Makes storage for `bytes`, rounded up to whole lines.
    ///
    /// # Errors
    /// [`ProgramError::OutOfMemory`] when the budget or the machine has not that much.
    pub(crate) fn zeros(bytes: usize, budget: &Budget) -> Result<Self, ProgramError> {
        Self::charged(bytes, budget.charge(bytes)?)
    }

    /// Makes storage for `bytes` that were charged before.
    ///
    /// # Errors
    /// [`ProgramError::OutOfMemory`] when the machine has not that much.
    pub(crate) fn charged(bytes: usize, charge: Charge) -> Result<Self, ProgramError> {
        let count = bytes.div_ceil(Line::BYTES);
        let mut lines = Vec::new();
        lines
            .try_reserve_exact(count)
            .map_err(|_| ProgramError::OutOfMemory {
                needed: bytes as u64,
                allowed: charge.limit(),
            })?;
        ask_for_large_pages(&mut lines);
        lines.resize(count, Line::ZERO);
        Ok(Self {
            lines,
            _charge: charge,
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

/// The bytes of a large page; the kernel knows better, but only this much is asked for.
const LARGE_PAGE: usize = 2 << 20;

/// Asks the kernel for large pages where memory that is reserved spans whole ones. Walking
/// through it then needs 512 times fewer translations of addresses.
#[expect(unsafe_code, reason = "advice is given for raw addresses")]
fn ask_for_large_pages(lines: &mut Vec<Line>) {
    let reserved = lines.spare_capacity_mut();
    let bytes = size_of_val(reserved);
    let start = reserved.as_mut_ptr().cast::<u8>();
    let before = start.align_offset(LARGE_PAGE);
    let length = bytes.saturating_sub(before) / LARGE_PAGE * LARGE_PAGE;
    if length == 0 {
        return;
    }
    // SAFETY: the range lies in the vector's own memory, which holds nothing yet, and this
    // advice changes no contents.
    let asked = unsafe {
        rustix::mm::madvise(
            start.add(before).cast(),
            length,
            rustix::mm::Advice::LinuxHugepage,
        )
    };
    // A kernel without large pages goes on with small ones.
    let _ = asked;
}

/// An immutable array in host memory, row-major. Clones share the memory.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) ty: TensorType,
    pub(crate) storage: Arc<Storage>,
}

impl Tensor {
    /// Makes a tensor of little-endian elements; any byte but 0 is a true `bool`.
    ///
    /// # Errors
    /// [`ProgramError::Argument`] when the shape breaks a rule or `data` has another
    /// length; [`ProgramError::OutOfMemory`].
    pub fn from_bytes(
        dtype: DType,
        shape: &[u64],
        data: &[u8],
        budget: &Budget,
    ) -> Result<Self, ProgramError> {
        let ty = argument_type(dtype, shape)?;
        if data.len() != ty.bytes() {
            return Err(ProgramError::Argument(format!(
                "a tensor {ty} has {} bytes, but {} were given",
                ty.bytes(),
                data.len()
            )));
        }
        Self::build(dtype, shape, budget, |bytes| bytes.copy_from_slice(data))
    }

    /// Makes a tensor and lets `fill` write its elements (at first all zero) in place.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn build(
        dtype: DType,
        shape: &[u64],
        budget: &Budget,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Self, ProgramError> {
        let ty = argument_type(dtype, shape)?;
        let mut storage = Storage::zeros(ty.bytes(), budget)?;
        let bytes = &mut storage.bytes_mut()[..ty.bytes()];
        fill(bytes);
        if dtype == DType::Bool {
            for byte in bytes {
                *byte = u8::from(*byte != 0);
            }
        }
        Ok(Self {
            ty,
            storage: Arc::new(storage),
        })
    }

    /// Makes a tensor of zeros.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn zeros(dtype: DType, shape: &[u64], budget: &Budget) -> Result<Self, ProgramError> {
        Self::build(dtype, shape, budget, |_| {})
    }

    /// Makes an `f32` tensor.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn from_f32(shape: &[u64], data: &[f32], budget: &Budget) -> Result<Self, ProgramError> {
        Self::from_bytes(DType::F32, shape, bytemuck::cast_slice(data), budget)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// The dimensions; none for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.ty.shape
    }

    /// All elements, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.storage.bytes()[..self.ty.bytes()]
    }

    /// All elements, when they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        (self.ty.dtype == DType::F32).then(|| bytemuck::cast_slice(self.bytes()))
    }

    /// The element of a tensor that has just one, as a number; NaN otherwise. Integers
    /// beyond 2^53 are rounded.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the rounding of large integers is documented"
    )]
    pub fn item(&self) -> f64 {
        let bytes = self.bytes();
        if self.ty.elements() != 1 {
            return f64::NAN;
        }
        match self.ty.dtype {
            DType::F32 => f64::from(bytemuck::pod_read_unaligned::<f32>(bytes)),
            DType::F64 => bytemuck::pod_read_unaligned::<f64>(bytes),
            DType::Bf16 => bytemuck::pod_read_unaligned::<half::bf16>(bytes).to_f64(),
            DType::F16 => bytemuck::pod_read_unaligned::<half::f16>(bytes).to_f64(),
            DType::I32 => f64::from(bytemuck::pod_read_unaligned::<i32>(bytes)),
            DType::I64 => bytemuck::pod_read_unaligned::<i64>(bytes) as f64,
            DType::U32 => f64::from(bytemuck::pod_read_unaligned::<u32>(bytes)),
            DType::U8 | DType::Bool => f64::from(bytes[0]),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tensor({})", self.ty)
    }
}

fn argument_type(dtype: DType, shape: &[u64]) -> Result<TensorType, ProgramError> {
    let shape: Vec<usize> = shape
        .iter()
        .map(|&dimension| usize::try_from(dimension).unwrap_or(usize::MAX))
        .collect();
    TensorType::new(dtype, &shape).map_err(ProgramError::Argument)
}
