//! How the operand of a convolution is laid out before it is walked.

use super::super::vector::Vector;
use super::super::workers::Workers;
use crate::window::Convolution;

/// Elements behind a split operand, so that the last vector may reach beyond it.
const SLACK: usize = 64;

/// Elements of a split operand that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 1 << 14;

/// One spatial axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) spatial: usize,
    pub(super) places: usize,
    pub(super) window: usize,
    pub(super) stride: usize,
    pub(super) low: usize,
    pub(super) dilation: usize,
}

/// Where a split operand has its elements along one axis.
#[derive(Debug, Clone)]
pub(super) struct SplitAxis {
    /// Elements of the operand, of the split one per part, and the step between them.
    pub(super) from: usize,
    pub(super) extent: usize,
    pub(super) step: usize,
    /// For each part, the element of the operand that comes first; it may lie outside.
    pub(super) starts: Vec<isize>,
}

/// How an operand is laid out before it is walked.
#[derive(Debug)]
pub(super) struct Splitting {
    /// Images times channels.
    pub(super) planes: usize,
    pub(super) axes: [SplitAxis; 2],
    /// Whether the operand lies so already.
    pub(super) is_direct: bool,
}

impl Axis {
    pub(super) fn of(convolution: &Convolution, spatial: &[usize], axis: usize) -> Self {
        let window = &convolution.window;
        Self {
            spatial: spatial[axis],
            places: window.places(spatial)[axis],
            window: window.size[axis],
            stride: window.strides[axis],
            low: window.low[axis],
            dilation: window.dilation[axis],
        }
    }

    /// An axis that a one-dimensional convolution lacks.
    pub(super) fn single() -> Self {
        Self {
            spatial: 1,
            places: 1,
            window: 1,
            stride: 1,
            low: 0,
            dilation: 1,
        }
    }

    fn tap(&self, tap: usize) -> usize {
        tap.saturating_mul(self.dilation)
    }

    /// The residue classes of the stride that taps meet.
    pub(super) fn classes(&self) -> Vec<usize> {
        let mut classes: Vec<usize> = (0..self.window)
            .map(|tap| self.tap(tap) % self.stride)
            .collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    fn furthest(&self) -> usize {
        self.tap(self.window - 1) / self.stride
    }

    /// The operand split by residue class, and for each tap where its first element is:
    /// the part and the place in it.
    pub(super) fn split(&self) -> (SplitAxis, Vec<(usize, usize)>) {
        let classes = self.classes();
        let taps = (0..self.window).map(|tap| {
            let class = self.tap(tap) % self.stride;
            let part = classes.partition_point(|&other| other < class);
            (part, self.tap(tap) / self.stride)
        });
        let taps = taps.collect();
        let starts = classes
            .iter()
            .map(|&class| class.cast_signed() - self.low.cast_signed());
        let split = SplitAxis {
            from: self.spatial,
            extent: self.places.saturating_add(self.furthest()),
            step: self.stride,
            starts: starts.collect(),
        };
        (split, taps)
    }

    /// The result's places with as many zeros around them as the taps of a derivative by
    /// the operand can meet.
    pub(super) fn padded(&self) -> SplitAxis {
        SplitAxis {
            from: self.places,
            extent: (self.last_reach() - self.first_reach())
                .saturating_add(self.furthest())
                .saturating_add(1),
            step: 1,
            starts: vec![self.first_place()],
        }
    }

    /// Place that the first tap of the first element would come from, and the last one.
    fn first_reach(&self) -> usize {
        self.low / self.stride
    }

    fn last_reach(&self) -> usize {
        (self.spatial.max(1) - 1).saturating_add(self.low) / self.stride
    }

    fn first_place(&self) -> isize {
        self.first_reach().cast_signed() - self.furthest().cast_signed()
    }

    /// For a class of elements: the first one, how many there are, and per tap that meets
    /// them its place in the padded result.
    pub(super) fn class(&self, class: usize) -> (usize, usize, Vec<(usize, usize)>) {
        // Element i is at place u of its class when i + low = u stride + class.
        let first_place = self.low.saturating_sub(class).div_ceil(self.stride);
        let first = (first_place * self.stride + class).saturating_sub(self.low);
        let count = self
            .spatial
            .checked_sub(first + 1)
            .map_or(0, |rest| rest / self.stride + 1);
        let start = first_place.cast_signed() - self.first_place();
        let taps = (0..self.window)
            .filter(|&tap| self.tap(tap) % self.stride == class)
            .map(|tap| {
                let place = start - (self.tap(tap) / self.stride).cast_signed();
                (tap, place.unsigned_abs())
            });
        (first, count, taps.collect())
    }
}

impl SplitAxis {
    pub(super) fn is_direct(&self) -> bool {
        self.extent == self.from && self.step == 1 && self.starts == [0]
    }

    pub(super) fn parts(&self) -> usize {
        self.starts.len()
    }

    /// The places of a part that hold elements, and the element that the first of them is.
    fn inside(&self, part: usize) -> (std::ops::Range<usize>, usize) {
        let start = self.starts[part];
        let first = if start < 0 {
            start.unsigned_abs().div_ceil(self.step)
        } else {
            0
        };
        let element = (first * self.step).checked_add_signed(start).unwrap_or(0);
        let count = self
            .from
            .checked_sub(element + 1)
            .map_or(0, |rest| rest / self.step + 1);
        let first = first.min(self.extent);
        (first..(first + count).min(self.extent), element)
    }
}

impl Splitting {
    pub(super) fn new(planes: usize, axes: [SplitAxis; 2]) -> Self {
        let is_direct = axes.iter().all(SplitAxis::is_direct);
        Self {
            planes,
            axes,
            is_direct,
        }
    }

    /// Elements of a plane.
    pub(super) fn plane(&self) -> usize {
        self.axes.iter().fold(1, |size: usize, axis| {
            size.saturating_mul(axis.extent)
                .saturating_mul(axis.parts())
        })
    }

    /// Elements of the memory that the split operand needs.
    pub(super) fn scratch(&self) -> usize {
        if self.is_direct {
            return 0;
        }
        self.planes
            .saturating_mul(self.plane())
            .saturating_add(SLACK)
    }

    /// The operand in its layout.
    pub(super) fn split<'a, T: Vector>(
        &self,
        from: &'a [T],
        scratch: &'a mut [T],
        workers: &Workers<'_>,
    ) -> &'a [T] {
        if self.is_direct {
            return from;
        }
        let plane = self.plane();
        let (planes, slack) = scratch.split_at_mut(self.planes * plane);
        slack.fill(T::ZERO);
        let size = self.axes[0].from * self.axes[1].from;
        let together = ELEMENTS_PER_PIECE.div_ceil(plane.max(1));
        workers.each_chunk(planes, together * plane.max(1), |piece, chunk| {
            for (place, split) in chunk.chunks_mut(plane).enumerate() {
                let first = (piece * together + place) * size;
                self.split_plane(&from[first..first + size], split);
            }
        });
        scratch
    }

    fn split_plane<T: Vector>(&self, from: &[T], split: &mut [T]) {
        let [rows, columns] = &self.axes;
        let mut parts = split.chunks_mut(rows.extent * columns.extent);
        for row_part in 0..rows.parts() {
            let (inside, first_row) = rows.inside(row_part);
            for column_part in 0..columns.parts() {
                let (across, first_column) = columns.inside(column_part);
                let part = parts.next().expect("a chunk for each part");
                for (place, row) in part.chunks_mut(columns.extent).enumerate() {
                    if !inside.contains(&place) || across.is_empty() {
                        row.fill(T::ZERO);
                        continue;
                    }
                    let element = first_row + (place - inside.start) * rows.step;
                    let from = &from[element * columns.from + first_column..];
                    row[..across.start].fill(T::ZERO);
                    row[across.end..].fill(T::ZERO);
                    let row = &mut row[across.clone()];
                    if columns.step == 1 {
                        row.copy_from_slice(&from[..row.len()]);
                    } else {
                        let from = from.iter().step_by(columns.step);
                        for (to, &from) in row.iter_mut().zip(from) {
                            *to = from;
                        }
                    }
                }
            }
        }
    }
}

/// The split operand's axes, and the offset of each tap in a plane.
pub(super) fn split_taps(axes: &[Axis; 2]) -> ([SplitAxis; 2], Vec<usize>) {
    let (rows, row_taps) = axes[0].split();
    let (columns, column_taps) = axes[1].split();
    let mut taps = Vec::with_capacity(row_taps.len() * column_taps.len());
    for &(row_part, row) in &row_taps {
        for &(column_part, column) in &column_taps {
            let part = row_part * columns.parts() + column_part;
            let row = part.saturating_mul(rows.extent).saturating_add(row);
            taps.push(row.saturating_mul(columns.extent).saturating_add(column));
        }
    }
    ([rows, columns], taps)
}
