//! Convolutions and pools.

use super::accumulator;
use super::text::{self, Element, Text, Val};
use crate::window::{AveragePool, Convolution, Wanted, Window};

impl Text {
    /// One of the three convolutions, whose operands are in the order of their names in
    /// `docs/programs.md`.
    pub(super) fn convolve(
        &mut self,
        convolution: &Convolution,
        operands: [&Val; 2],
        shape: &[usize],
    ) -> Val {
        let element = operands[0].element;
        if operands.iter().any(|operand| operand.elements() == 0) {
            return self.integer(element, shape, 0);
        }
        let result = match convolution.wanted {
            Wanted::Result => self.convolution_result(convolution, operands, shape),
            Wanted::Operand => self.convolution_operand(convolution, operands, shape),
            Wanted::Kernel => self.convolution_kernel(convolution, operands, shape),
        };
        self.convert(&result, element)
    }

    fn convolution_result(
        &mut self,
        convolution: &Convolution,
        [x, kernel]: [&Val; 2],
        shape: &[usize],
    ) -> Val {
        let window = &convolution.window;
        let axes = spatial_axes(x);
        let moves = text::Window {
            size: Vec::new(),
            strides: window.strides.to_vec(),
            padding: padding(window),
            base_dilation: vec![1; axes],
            dilation: window.dilation.to_vec(),
        };
        let names = spatial_names(axes);
        let dimensions = format!("[b, f, {names}]x[o, i, {names}]->[b, f, {names}]");
        let groups = (convolution.groups, false);
        let element = accumulator(x.element);
        self.convolution(x, kernel, &dimensions, &moves, groups, element, shape)
    }

    /// The result with gaps of the strides between its elements, under the kernel turned
    /// round, whose channels have changed places within each group.
    fn convolution_operand(
        &mut self,
        convolution: &Convolution,
        [y, kernel]: [&Val; 2],
        shape: &[usize],
    ) -> Val {
        let window = &convolution.window;
        let axes = spatial_axes(y);
        let groups = convolution.groups;
        let (outs, ins) = (kernel.shape[0] / groups, kernel.shape[1]);
        let size = kernel.shape[2..].to_vec();
        let grouped = self.reshape(kernel, &[&[groups, outs, ins], size.as_slice()].concat());
        let order: Vec<usize> = [0, 2, 1].into_iter().chain(3..3 + axes).collect();
        let swapped = self.transpose(&grouped, &order);
        let swapped = self.reshape(&swapped, &[&[groups * ins, outs], size.as_slice()].concat());
        let turned = self.reverse(&swapped, &(2..2 + axes).collect::<Vec<_>>());
        let padding = (0..axes).map(|axis| {
            let reach = signed(window.span(axis) - 1);
            let spread = signed((y.shape[2 + axis] - 1) * window.strides[axis] + 1);
            let low = reach - signed(window.low[axis]);
            [low, signed(shape[2 + axis]) + reach - spread - low]
        });
        let moves = text::Window {
            size: Vec::new(),
            strides: vec![1; axes],
            padding: padding.collect(),
            base_dilation: window.strides.to_vec(),
            dilation: window.dilation.to_vec(),
        };
        let names = spatial_names(axes);
        let dimensions = format!("[b, f, {names}]x[o, i, {names}]->[b, f, {names}]");
        let element = accumulator(y.element);
        self.convolution(
            y,
            &turned,
            &dimensions,
            &moves,
            (groups, false),
            element,
            shape,
        )
    }

    /// The operand under the result as a kernel: batches are summed over, so they take the
    /// place of channels.
    fn convolution_kernel(
        &mut self,
        convolution: &Convolution,
        [x, y]: [&Val; 2],
        shape: &[usize],
    ) -> Val {
        let window = &convolution.window;
        let axes = spatial_axes(x);
        let padding = (0..axes).map(|axis| {
            let reach = signed(window.span(axis) - 1);
            let spread = signed((y.shape[2 + axis] - 1) * window.strides[axis] + 1);
            let low = signed(window.low[axis]);
            [low, reach + spread - signed(x.shape[2 + axis]) - low]
        });
        let moves = text::Window {
            size: Vec::new(),
            strides: window.dilation.to_vec(),
            padding: padding.collect(),
            base_dilation: vec![1; axes],
            dilation: window.strides.to_vec(),
        };
        let names = spatial_names(axes);
        let dimensions = format!("[f, b, {names}]x[i, o, {names}]->[f, b, {names}]");
        let groups = (convolution.groups, true);
        let element = accumulator(x.element);
        // The batch of this convolution is its second dimension, the operand's channels.
        self.convolution(x, y, &dimensions, &moves, groups, element, shape)
    }

    /// The greatest element under each window, and where it is.
    pub(super) fn max_pool(&mut self, x: &Val, window: &Window, shape: &[usize]) -> [Val; 2] {
        let spatial = x.shape[2..].to_vec();
        let count: usize = spatial.iter().product();
        let place = self.iota(Element::I32, &[count], 0);
        let place = self.reshape(&place, &spatial);
        let axes: Vec<usize> = (2..x.rank()).collect();
        let place = self.broadcast(&place, &x.shape, &axes);
        let lowest = self.lowest(x.element, &[]);
        let nowhere = self.integer(Element::I32, &[], i64::from(i32::MAX));
        let moves = whole_window(window);
        self.reduce_window_pairs(
            [x, &place],
            [&lowest, &nowhere],
            &moves,
            shape,
            |text, [a, a_place], [b, b_place]| {
                // NaN before numbers, then the greater, then the first.
                let a_nan = text.compare("NE", a, a);
                let b_nan = text.compare("NE", b, b);
                let greater = text.compare("GT", a, b);
                let equal = text.compare("EQ", a, b);
                let both_nan = text.map("and", &[&a_nan, &b_nan]);
                let equal = text.map("or", &[&equal, &both_nan]);
                let b_number = text.map("not", &[&b_nan]);
                let only_a_nan = text.map("and", &[&a_nan, &b_number]);
                let first = text.compare("LT", a_place, b_place);
                let first = text.map("and", &[&equal, &first]);
                let a_wins = text.map("or", &[&greater, &only_a_nan]);
                let a_wins = text.map("or", &[&a_wins, &first]);
                [
                    text.select(&a_wins, a, b),
                    text.select(&a_wins, a_place, b_place),
                ]
            },
        )
    }

    /// An average over windows, or its derivative.
    pub(super) fn average(&mut self, pool: &AveragePool, x: &Val, shape: &[usize]) -> Val {
        let window = &pool.window;
        let wide = self.widen(x);
        if x.elements() == 0 {
            return self.integer(x.element, shape, 0);
        }
        let zero = self.integer(wide.element, &[], 0);
        let result = if pool.transposed {
            let counts = self.window_counts(pool, wide.element, &shape[2..], &wide.shape);
            let shares = self.map("divide", &[&wide, &counts]);
            self.spread_windows(&shares, window, &zero, shape)
        } else {
            let sums = self.reduce_window("add", &wide, &zero, &whole_window(window), shape);
            let counts = self.window_counts(pool, wide.element, &x.shape[2..], shape);
            self.map("divide", &[&sums, &counts])
        };
        self.convert(&result, x.element)
    }

    /// Adds the value of each place to all elements under its window.
    fn spread_windows(&mut self, x: &Val, window: &Window, zero: &Val, shape: &[usize]) -> Val {
        let (mut low, mut high, mut interior) = (vec![0; 2], vec![0; 2], vec![0; 2]);
        let mut padded = x.shape[..2].to_vec();
        for axis in 0..spatial_axes(x) {
            let reach = signed(window.size[axis] - 1);
            let spread = signed((x.shape[2 + axis] - 1) * window.strides[axis] + 1);
            low.push(reach - signed(window.low[axis]));
            let size = signed(shape[2 + axis]) + reach;
            high.push(size - spread - low[2 + axis]);
            interior.push(window.strides[axis] - 1);
            padded.push(shape[2 + axis] + window.size[axis] - 1);
        }
        let spread = self.pad(x, zero, &low, &high, &interior, &padded);
        let rank = x.rank();
        let moves = text::Window {
            size: [&[1, 1], &*window.size].concat(),
            strides: vec![1; rank],
            padding: vec![[0, 0]; rank],
            base_dilation: vec![1; rank],
            dilation: vec![1; rank],
        };
        self.reduce_window("add", &spread, zero, &moves, shape)
    }

    /// By what the sum at each place is divided.
    fn window_counts(
        &mut self,
        pool: &AveragePool,
        element: Element,
        spatial: &[usize],
        shape: &[usize],
    ) -> Val {
        let window = &pool.window;
        if pool.count_padding {
            let count: usize = window.size.iter().product();
            return self.integer(element, shape, signed(count));
        }
        // Along each axis, the part of the window that lies on elements.
        let mut counts: Option<Val> = None;
        for (axis, &size) in spatial.iter().enumerate() {
            let place = self.iota(Element::I64, shape, 2 + axis);
            let [stride, low, reach, zero, size] = [
                signed(window.strides[axis]),
                signed(window.low[axis]),
                signed(window.size[axis]),
                0,
                signed(size),
            ]
            .map(|number| self.integer(Element::I64, shape, number));
            let start = self.map("multiply", &[&place, &stride]);
            let start = self.map("subtract", &[&start, &low]);
            let end = self.map("add", &[&start, &reach]);
            let start = self.map("maximum", &[&start, &zero]);
            let end = self.map("minimum", &[&end, &size]);
            let count = self.map("subtract", &[&end, &start]);
            counts = Some(match counts {
                None => count,
                Some(counts) => self.map("multiply", &[&counts, &count]),
            });
        }
        let counts = counts.unwrap_or_else(|| self.integer(Element::I64, shape, 1));
        self.convert(&counts, element)
    }
}

fn spatial_axes(x: &Val) -> usize {
    x.rank() - 2
}

/// How the specification names spatial axes: by number.
fn spatial_names(axes: usize) -> String {
    let names: Vec<String> = (0..axes).map(|axis| axis.to_string()).collect();
    names.join(", ")
}

fn padding(window: &Window) -> Vec<[i64; 2]> {
    let sides = window.low.iter().zip(window.high.iter());
    sides
        .map(|(&low, &high)| [signed(low), signed(high)])
        .collect()
}

/// A window over all axes, batch and channels included.
fn whole_window(window: &Window) -> text::Window {
    text::Window {
        size: [&[1, 1], &*window.size].concat(),
        strides: [&[1, 1], &*window.strides].concat(),
        padding: [&[[0, 0]; 2], padding(window).as_slice()].concat(),
        base_dilation: vec![1; window.size.len() + 2],
        dilation: [&[1, 1], &*window.dilation].concat(),
    }
}

/// Sizes are below 2^31, and products of two of them fit.
fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
