//! Convolutions and pooling, over one or two spatial axes.

use super::{Initial, Module, Scope};
use crate::graph::{Var, Window};

/// A convolution over one axis: `[N, inputs, L]`. PyTorch's `Conv1d`.
pub type Conv1d = Conv<1>;
/// A convolution over two axes: `[N, inputs, H, W]`. PyTorch's `Conv2d`.
pub type Conv2d = Conv<2>;
/// A transposed convolution over one axis. PyTorch's `ConvTranspose1d`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// A transposed convolution over two axes. PyTorch's `ConvTranspose2d`.
pub type ConvTranspose2d = ConvTranspose<2>;
/// The greatest element of each window over one axis. PyTorch's `MaxPool1d`.
pub type MaxPool1d = MaxPool<1>;
/// The greatest element of each window over two axes. PyTorch's `MaxPool2d`.
pub type MaxPool2d = MaxPool<2>;
/// The mean of each window over one axis. PyTorch's `AvgPool1d`.
pub type AvgPool1d = AvgPool<1>;
/// The mean of each window over two axes. PyTorch's `AvgPool2d`.
pub type AvgPool2d = AvgPool<2>;
/// Means that make one axis as long as asked. PyTorch's `AdaptiveAvgPool1d`.
pub type AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
/// Means that make two axes as long as asked. PyTorch's `AdaptiveAvgPool2d`.
pub type AdaptiveAvgPool2d = AdaptiveAvgPool<2>;

/// A convolution over `AXES` axes: `[N, inputs, spatial…]` becomes `[N, outputs, …]`.
///
/// Parameters `weight` `[outputs, inputs / groups, kernel…]` and `bias` `[outputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv<const AXES: usize> {
    /// Channels that it takes.
    pub inputs: usize,
    /// Channels that it gives.
    pub outputs: usize,
    /// The size of the window.
    pub kernel: [usize; AXES],
    /// How far the window moves each time.
    pub stride: [usize; AXES],
    /// Zeros before and behind each axis.
    pub padding: [usize; AXES],
    /// The distance of two of the window's places.
    pub dilation: [usize; AXES],
    /// Parts of the channels that do not see each other.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

/// The derivative of a convolution as a layer: `[N, inputs, spatial…]` becomes
/// `[N, outputs, …]`, larger by the stride.
///
/// Parameters `weight` `[inputs, outputs / groups, kernel…]` and `bias` `[outputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTranspose<const AXES: usize> {
    /// Channels that it takes.
    pub inputs: usize,
    /// Channels that it gives.
    pub outputs: usize,
    /// The size of the window.
    pub kernel: [usize; AXES],
    /// The stride of the convolution that it turns round.
    pub stride: [usize; AXES],
    /// The padding of the convolution that it turns round.
    pub padding: [usize; AXES],
    /// Elements added behind each axis: which of the sizes that the convolution maps to
    /// the given one; less than the stride.
    pub output_padding: [usize; AXES],
    /// The distance of two of the window's places.
    pub dilation: [usize; AXES],
    /// Parts of the channels that do not see each other.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

/// The greatest element of each window over `[N, C, spatial…]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool<const AXES: usize> {
    /// The size of the window.
    pub kernel: [usize; AXES],
    /// How far the window moves each time.
    pub stride: [usize; AXES],
    /// Places before and behind each axis, which never win.
    pub padding: [usize; AXES],
    /// The distance of two of the window's places.
    pub dilation: [usize; AXES],
}

/// The mean of each window over `[N, C, spatial…]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool<const AXES: usize> {
    /// The size of the window.
    pub kernel: [usize; AXES],
    /// How far the window moves each time.
    pub stride: [usize; AXES],
    /// Places before and behind each axis.
    pub padding: [usize; AXES],
    /// Whether these count as zeros.
    pub count_padding: bool,
}

/// Means over windows that make the axes of `[N, C, spatial…]` as long as `outputs` says,
/// which divide them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool<const AXES: usize> {
    /// The sizes of the spatial axes of the result.
    pub outputs: [usize; AXES],
}

impl<const AXES: usize> Conv<AXES> {
    /// A convolution with a window of `kernel` along each axis.
    pub fn new(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self {
            inputs,
            outputs,
            kernel: [kernel; AXES],
            stride: [1; AXES],
            padding: [0; AXES],
            dilation: [1; AXES],
            groups: 1,
            bias: true,
        }
    }
}

impl<const AXES: usize> Module for Conv<AXES> {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let inner = self.inputs / self.groups.max(1);
        let initial = Initial::of_layer(inner * self.kernel.iter().product::<usize>());
        let shape = [&[self.outputs, inner], &self.kernel[..]].concat();
        let weight = scope.parameter_for(x, "weight", &shape, initial);
        let window = window(self.stride, self.padding, self.dilation);
        let value = x.convolution(&weight, &window, self.groups);
        if !self.bias {
            return value;
        }
        let bias = scope.parameter_for(x, "bias", &[self.outputs], initial);
        value + per_channel(&bias, AXES)
    }
}

impl<const AXES: usize> ConvTranspose<AXES> {
    /// A transposed convolution with a window of `kernel` along each axis.
    pub fn new(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self {
            inputs,
            outputs,
            kernel: [kernel; AXES],
            stride: [1; AXES],
            padding: [0; AXES],
            output_padding: [0; AXES],
            dilation: [1; AXES],
            groups: 1,
            bias: true,
        }
    }
}

impl<const AXES: usize> Module for ConvTranspose<AXES> {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let inner = self.outputs / self.groups.max(1);
        let initial = Initial::of_layer(inner * self.kernel.iter().product::<usize>());
        let shape = [&[self.inputs, inner], &self.kernel[..]].concat();
        let weight = scope.parameter_for(x, "weight", &shape, initial);
        let window = window(self.stride, self.padding, self.dilation);
        let spatial = (0..AXES).map(|axis| {
            let places = x.shape().get(2 + axis)?.checked_sub(1)?;
            let reach = self.dilation[axis] * self.kernel[axis].checked_sub(1)?;
            let padded = places * self.stride[axis] + reach + 1 + self.output_padding[axis];
            padded.checked_sub(2 * self.padding[axis])
        });
        let Some(spatial) = spatial.collect::<Option<Vec<usize>>>() else {
            return x.refused("convolution-transpose", "a value larger than the padding");
        };
        let value = x.convolution_transpose(&weight, &window, self.groups, &spatial);
        if !self.bias {
            return value;
        }
        let bias = scope.parameter_for(x, "bias", &[self.outputs], initial);
        value + per_channel(&bias, AXES)
    }
}

impl<const AXES: usize> MaxPool<AXES> {
    /// Windows of `kernel` along each axis that do not overlap.
    pub fn new(kernel: usize) -> Self {
        Self {
            kernel: [kernel; AXES],
            stride: [kernel; AXES],
            padding: [0; AXES],
            dilation: [1; AXES],
        }
    }
}

impl<const AXES: usize> Module for MaxPool<AXES> {
    fn forward(&self, _scope: &Scope, x: &Var) -> Var {
        let window = window(self.stride, self.padding, self.dilation);
        x.max_pool(&self.kernel, &window)
    }
}

impl<const AXES: usize> AvgPool<AXES> {
    /// Windows of `kernel` along each axis that do not overlap.
    pub fn new(kernel: usize) -> Self {
        Self {
            kernel: [kernel; AXES],
            stride: [kernel; AXES],
            padding: [0; AXES],
            count_padding: true,
        }
    }
}

impl<const AXES: usize> Module for AvgPool<AXES> {
    fn forward(&self, _scope: &Scope, x: &Var) -> Var {
        let window = window(self.stride, self.padding, [1; AXES]);
        x.average_pool(&self.kernel, &window, self.count_padding)
    }
}

impl<const AXES: usize> AdaptiveAvgPool<AXES> {
    /// Makes each axis `outputs` long; 1 takes the mean of all.
    pub fn new(outputs: usize) -> Self {
        Self {
            outputs: [outputs; AXES],
        }
    }
}

impl<const AXES: usize> Module for AdaptiveAvgPool<AXES> {
    fn forward(&self, _scope: &Scope, x: &Var) -> Var {
        let spatial = x.shape().get(2..).unwrap_or_default();
        let fits = spatial.len() == AXES
            && spatial
                .iter()
                .zip(&self.outputs)
                .all(|(&size, &output)| output > 0 && size > 0 && size.is_multiple_of(output));
        if !fits {
            let outputs = &self.outputs;
            let expected = format!("[N, C, spatial…] with axes that {outputs:?} divide");
            return x.refused("AdaptiveAvgPool", &expected);
        }
        let sizes = spatial.iter().zip(&self.outputs);
        let size: Vec<usize> = sizes.map(|(&size, &output)| size / output).collect();
        let window = Window {
            strides: size.clone(),
            ..Window::new(AXES)
        };
        x.average_pool(&size, &window, true)
    }
}

fn window<const AXES: usize>(
    stride: [usize; AXES],
    padding: [usize; AXES],
    dilation: [usize; AXES],
) -> Window {
    Window {
        strides: stride.to_vec(),
        padding: padding.map(|both| [both, both]).to_vec(),
        dilation: dilation.to_vec(),
    }
}

/// `[C]` as `[C, 1, …]`, so that it stands beside `[N, C, spatial…]`.
fn per_channel(parameter: &Var, axes: usize) -> Var {
    let ones = vec![1; axes];
    parameter.reshape(&[parameter.shape(), &ones].concat())
}
