//! Convolutions, and both of their derivatives, without a matrix of patches.
//!
//! First, where strides or padding ask for it, the operand is split: for each axis the
//! elements that a tap can meet at stride 1 are laid one after another, with zeros for the
//! padding. Then what a tap multiplies lies at a fixed distance from the place of the
//! result, so neighbouring places of a row are computed by loading vectors at that distance.
//! Rows are walked as one, with the few places between them that belong to no result
//! computed and thrown away; so vectors are full whatever the width.
//!
//! - The result is a sum over channels and taps in registers, [`Shifted`]. So is the
//!   derivative by the operand: there the elements of each residue class of the stride are a
//!   convolution of their own, with the taps that meet that class.
//! - The derivative by the kernel is a sum over places, [`Correlated`].
//! - Where it is faster, all three are computed as [`Winograd`] shows.
//!
//! Pieces of work are cut by shape, and each result element is computed by one piece, in
//! the order of channels and taps (of images and places): bits do not depend on threads.

mod correlated;
mod shifted;
mod split;

use correlated::Correlated;
use shifted::{Class, Shifted, Tap, classes};
use split::{Axis, SplitAxis, Splitting, split_taps};

use super::vector::Vector;
use super::winograd::Winograd;
use super::workers::Workers;
use crate::DType;
use crate::shape::Dims;
use crate::window::{Convolution, Wanted};

/// The most lanes of a vector.
const MOST_LANES: usize = 16;

/// A convolution, or a derivative of one.
#[derive(Debug)]
pub(crate) struct Convolve {
    dtype: DType,
    flops: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Shifted {
        operand: Splitting,
        sum: Shifted,
    },
    Correlated {
        operand: Splitting,
        adjoint: Splitting,
        sum: Correlated,
    },
    Winograd(Winograd),
}

impl Convolve {
    /// Plans a convolution whose first operand and result have these shapes.
    pub(crate) fn new(
        convolution: &Convolution,
        dtype: DType,
        [first, second, result]: [&Dims; 3],
    ) -> Self {
        let window = &convolution.window;
        let spatial = match convolution.wanted {
            Wanted::Operand => &result[2..],
            _ => &first[2..],
        };
        let axes = match spatial.len() {
            1 => [Axis::single(), Axis::of(convolution, spatial, 0)],
            _ => [0, 1].map(|axis| Axis::of(convolution, spatial, axis)),
        };
        let groups = convolution.groups.max(1);
        let (images, x_channels, outputs) = match convolution.wanted {
            Wanted::Result => (first[0], first[1], second[0]),
            Wanted::Operand => (first[0], result[1], second[0]),
            Wanted::Kernel => (first[0], first[1], second[1]),
        };
        let (channels, outputs) = (x_channels / groups, outputs / groups);
        let places = axes[0].places.saturating_mul(axes[1].places);
        let flops = [
            images,
            groups,
            channels,
            outputs,
            places,
            window.size.product(),
        ]
        .iter()
        .fold(2, |flops: u64, &size| flops.saturating_mul(size as u64));
        if let Some(winograd) = Winograd::new(convolution, [first, second, result]) {
            let kind = Kind::Winograd(winograd);
            return Self { dtype, flops, kind };
        }
        let size = window.size.product();
        let kind = match convolution.wanted {
            Wanted::Result => {
                let (split, taps) = split_taps(&axes);
                let splitting = Splitting::new(images.saturating_mul(x_channels), split);
                let taps = taps.into_iter().enumerate();
                let class = Class {
                    taps: taps
                        .map(|(weight, element)| Tap { weight, element })
                        .collect(),
                    rows: axes[0].places,
                    columns: axes[1].places,
                    first: 0,
                    row_step: axes[1].places,
                    column_step: 1,
                };
                let shifted = Shifted {
                    images,
                    groups,
                    rows: outputs,
                    channels,
                    weight_group: outputs.saturating_mul(channels).saturating_mul(size),
                    weight_row: channels.saturating_mul(size),
                    weight_channel: size,
                    plane: splitting.plane(),
                    pitch: splitting.axes[1].extent,
                    result_plane: places,
                    classes: vec![class],
                    has_gaps: false,
                    places_per_piece: 0,
                    rows_per_piece: 0,
                };
                Kind::Shifted {
                    operand: splitting,
                    sum: shifted.in_pieces(),
                }
            }
            Wanted::Operand => {
                let padded = [axes[0].padded(), axes[1].padded()];
                let pitch = padded[1].extent;
                let planes = images.saturating_mul(outputs).saturating_mul(groups);
                let splitting = Splitting::new(planes, padded);
                let (classes, has_gaps) = classes(&axes, pitch);
                let shifted = Shifted {
                    images,
                    groups,
                    rows: channels,
                    channels: outputs,
                    weight_group: outputs.saturating_mul(channels).saturating_mul(size),
                    weight_row: size,
                    weight_channel: channels.saturating_mul(size),
                    plane: splitting.plane(),
                    pitch,
                    result_plane: axes[0].spatial.saturating_mul(axes[1].spatial),
                    classes,
                    has_gaps,
                    places_per_piece: 0,
                    rows_per_piece: 0,
                };
                Kind::Shifted {
                    operand: splitting,
                    sum: shifted.in_pieces(),
                }
            }
            Wanted::Kernel => {
                let (split, taps) = split_taps(&axes);
                let pitch = split[1].extent;
                let splitting = Splitting::new(images.saturating_mul(x_channels), split);
                // The adjoint's rows get the operand's pitch, and its end a whole vector.
                let rows = SplitAxis {
                    from: axes[0].places,
                    extent: axes[0].places,
                    step: 1,
                    starts: vec![0],
                };
                let columns = SplitAxis {
                    from: axes[1].places,
                    extent: pitch,
                    step: 1,
                    starts: vec![0],
                };
                let planes = images.saturating_mul(outputs).saturating_mul(groups);
                let adjoint = Splitting::new(planes, [rows, columns]);
                let correlated = Correlated {
                    images,
                    groups,
                    outputs,
                    channels,
                    taps,
                    plane: splitting.plane(),
                    pitch,
                    adjoint_plane: adjoint.plane(),
                    rows: axes[0].places,
                    columns: axes[1].places,
                };
                Kind::Correlated {
                    operand: splitting,
                    adjoint,
                    sum: correlated,
                }
            }
        };
        Self { dtype, flops, kind }
    }

    pub(crate) fn flops(&self) -> u64 {
        self.flops
    }

    /// Elements of the memory that the kernel needs besides its result, of its own type;
    /// saturated when it is beyond all bounds.
    pub(crate) fn scratch(&self) -> usize {
        match &self.kind {
            Kind::Shifted { operand, .. } => operand.scratch(),
            Kind::Correlated {
                operand, adjoint, ..
            } => operand.scratch().saturating_add(adjoint.scratch()),
            Kind::Winograd(winograd) => winograd.scratch(),
        }
    }

    pub(super) fn run(
        &self,
        operands: [&[u8]; 2],
        result: &mut [u8],
        scratch: &mut [u8],
        workers: &Workers<'_>,
    ) {
        if self.dtype == DType::F64 {
            self.compute::<f64>(operands, result, scratch, workers);
        } else {
            self.compute::<f32>(operands, result, scratch, workers);
        }
    }

    fn compute<T: Vector>(
        &self,
        [first, second]: [&[u8]; 2],
        result: &mut [u8],
        scratch: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let first: &[T] = bytemuck::cast_slice(first);
        let second: &[T] = bytemuck::cast_slice(second);
        let result: &mut [T] = bytemuck::cast_slice_mut(result);
        let scratch: &mut [T] = if scratch.is_empty() {
            &mut []
        } else {
            bytemuck::cast_slice_mut(scratch)
        };
        if result.is_empty() {
            return;
        }
        if self.flops == 0 {
            result.fill(T::ZERO);
            return;
        }
        match &self.kind {
            Kind::Shifted { operand, sum } => {
                let first = operand.split(first, scratch, workers);
                sum.run(first, second, result, workers);
            }
            Kind::Correlated {
                operand,
                adjoint,
                sum,
            } => {
                let (own, rest) = scratch.split_at_mut(operand.scratch());
                let first = operand.split(first, own, workers);
                let second = adjoint.split(second, rest, workers);
                sum.run(first, second, result, workers);
            }
            Kind::Winograd(winograd) => {
                winograd.run([first, second], result, scratch, workers);
            }
        }
    }
}
