//! Windows that slide over spatial axes: what convolutions and pools have in common.

use crate::shape::Dims;

/// A window and its ways; each list has one entry per spatial axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub(crate) size: Dims,
    pub(crate) strides: Dims,
    /// What is added before and behind each axis.
    pub(crate) low: Dims,
    pub(crate) high: Dims,
    pub(crate) dilation: Dims,
}

impl Window {
    /// The number of places along each axis; 0 where the window does not fit.
    pub(crate) fn places(&self, spatial: &[usize]) -> Dims {
        Dims::collect(spatial.iter().enumerate().map(|(axis, &size)| {
            let padded = size
                .saturating_add(self.low[axis])
                .saturating_add(self.high[axis]);
            padded
                .checked_sub(self.span(axis))
                .map_or(0, |room| room / self.strides[axis] + 1)
        }))
    }

    /// The elements from the first to the last under the window.
    pub(crate) fn span(&self, axis: usize) -> usize {
        self.dilation[axis]
            .saturating_mul(self.size[axis] - 1)
            .saturating_add(1)
    }
}

/// Which of the three operands of a convolution is computed from the others. Each is a
/// derivative of the others, so the three are closed under differentiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// y, from x and the kernel.
    Result,
    /// x, from y and the kernel.
    Operand,
    /// The kernel, from x and y.
    Kernel,
}

/// `y[n, o, p] = sum over c and w of kernel[o, c, w] x[n, c, strides p + dilation w - low]`
/// in each group of channels, or a derivative of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Convolution {
    pub(crate) wanted: Wanted,
    pub(crate) window: Window,
    pub(crate) groups: usize,
}

/// An average over windows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AveragePool {
    pub(crate) window: Window,
    /// Padding counts as zeros; otherwise not at all.
    pub(crate) count_padding: bool,
    /// Whether this is the derivative: from the places to the elements.
    pub(crate) transposed: bool,
}
