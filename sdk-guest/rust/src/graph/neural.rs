//! Operations that layers of neural networks are made of.

use super::{Var, integer, integers};
use crate::DType;
use crate::compute::Attribute;

/// How a window moves over the spatial axes of `[N, C, spatial…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// How far it moves each time, per axis; from 1.
    pub strides: Vec<usize>,
    /// How many elements stand before and behind each axis.
    pub padding: Vec<[usize; 2]>,
    /// The distance of two of its places, per axis; from 1.
    pub dilation: Vec<usize>,
}

/// What [`Var::batch_norm`] makes.
#[derive(Debug, Clone)]
pub struct BatchNormed {
    /// The value, normalised.
    pub value: Var,
    /// The mean of each channel `[C]`; lets no gradient through.
    pub mean: Var,
    /// The mean squared distance from the mean of each channel `[C]`; lets no gradient
    /// through.
    pub variance: Var,
}

impl Window {
    /// Moves by 1 over so many axes, without padding or dilation.
    pub fn new(axes: usize) -> Self {
        Self {
            strides: vec![1; axes],
            padding: vec![[0, 0]; axes],
            dilation: vec![1; axes],
        }
    }

    /// How often a window of `size` fits along each axis; none when the numbers of axes
    /// differ, or a stride or dilation is 0.
    fn places(&self, spatial: &[usize], size: &[usize]) -> Option<Vec<usize>> {
        let axes = spatial.len();
        let lengths = [size.len(), self.strides.len(), self.dilation.len()];
        let positive = |sizes: &[usize]| sizes.iter().all(|&size| size > 0);
        if lengths != [axes; 3]
            || self.padding.len() != axes
            || ![&self.strides[..], &self.dilation, size]
                .into_iter()
                .all(positive)
        {
            return None;
        }
        let places = (0..axes).map(|axis| {
            let [low, high] = self.padding[axis];
            let padded = spatial[axis].checked_add(low)?.checked_add(high)?;
            let reach = self.dilation[axis].checked_mul(size[axis] - 1)?;
            let free = padded.checked_sub(reach.checked_add(1)?);
            Some(free.map_or(0, |free| free / self.strides[axis] + 1))
        });
        places.collect()
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let padding: Vec<usize> = self.padding.iter().copied().flatten().collect();
        vec![
            ("strides", integers(&self.strides)),
            ("padding", integers(&padding)),
        ]
    }

    fn with_dilation(&self) -> Vec<(&'static str, Attribute)> {
        let mut attributes = self.attributes();
        attributes.push(("dilation", integers(&self.dilation)));
        attributes
    }
}

impl Var {
    /// Exponentials along `axis`, divided by their sum.
    pub fn softmax(&self, axis: usize) -> Self {
        self.along("softmax", axis)
    }

    /// The logarithm of [`Var::softmax`], computed without overflow.
    pub fn log_softmax(&self, axis: usize) -> Self {
        self.along("log-softmax", axis)
    }

    /// The products of `kernel` `[O, C / groups, window…]`, which is not flipped, with
    /// each place of `[N, C, spatial…]`, summed up: `[N, O, …]`. One or two spatial axes.
    pub fn convolution(&self, kernel: &Self, window: &Window, groups: usize) -> Self {
        let shape = match (&*self.shape, &*kernel.shape) {
            ([rows, channels, spatial @ ..], [outputs, inner, size @ ..])
                if divides(groups, *outputs) && inner.checked_mul(groups) == Some(*channels) =>
            {
                let places = window.places(spatial, size);
                places.map(|places| [&[*rows, *outputs], &*places].concat())
            }
            _ => None,
        };
        let Some(shape) = shape.filter(|_| self.dtype.is_float() && self.dtype == kernel.dtype)
        else {
            return self.unfit("convolution", kernel, window, groups);
        };
        let mut attributes = window.with_dilation();
        attributes.push(("groups", integer(groups)));
        let operands = [self, kernel];
        self.graph
            .emit("convolution", &operands, attributes, self.dtype, &shape)
    }

    /// The derivative of [`Var::convolution`] by its first operand, whose spatial axes
    /// are `spatial`: `[N, O, …]` with a kernel `[O, C / groups, window…]` becomes
    /// `[N, C, spatial…]`.
    pub fn convolution_transpose(
        &self,
        kernel: &Self,
        window: &Window,
        groups: usize,
        spatial: &[usize],
    ) -> Self {
        const OP: &str = "convolution-transpose";
        let shape = match (&*self.shape, &*kernel.shape) {
            ([rows, channels, places @ ..], [outputs, inner, size @ ..])
                if channels == outputs
                    && divides(groups, *outputs)
                    && window.places(spatial, size).as_deref() == Some(places) =>
            {
                let inputs = inner.checked_mul(groups);
                inputs.map(|inputs| [&[*rows, inputs], spatial].concat())
            }
            _ => None,
        };
        let Some(shape) = shape.filter(|_| self.dtype.is_float() && self.dtype == kernel.dtype)
        else {
            return self.unfit(OP, kernel, window, groups);
        };
        let mut attributes = window.with_dilation();
        attributes.push(("groups", integer(groups)));
        attributes.push(("spatial", integers(spatial)));
        self.graph
            .emit(OP, &[self, kernel], attributes, self.dtype, &shape)
    }

    /// The greatest element of each window of `size` over `[N, C, spatial…]`; padding
    /// never wins.
    pub fn max_pool(&self, size: &[usize], window: &Window) -> Self {
        let Some(shape) = self.pooled("max-pool", size, window) else {
            return self.clone();
        };
        let mut attributes = vec![("window", integers(size))];
        attributes.extend(window.with_dilation());
        let types = [(self.dtype, &*shape), (DType::I32, &*shape)];
        let [value, _places] = self.graph.emit_all("max-pool", &[self], attributes, types);
        value
    }

    /// The mean of each window of `size` over `[N, C, spatial…]`; with `count_padding`,
    /// padding counts as zeros, otherwise not at all. A window without dilation.
    pub fn average_pool(&self, size: &[usize], window: &Window, count_padding: bool) -> Self {
        const OP: &str = "average-pool";
        if window.dilation.iter().any(|&distance| distance != 1) {
            return self.refused(OP, "a window without dilation");
        }
        let Some(shape) = self.pooled(OP, size, window) else {
            return self.clone();
        };
        let mut attributes = vec![("window", integers(size))];
        attributes.extend(window.attributes());
        attributes.push(("count-padding", Attribute::Flag(count_padding)));
        self.graph.emit(OP, &[self], attributes, self.dtype, &shape)
    }

    /// Normalised over all axes from `axis` on, whose shape `scale` and `shift` have:
    /// `(x - mean) / sqrt(variance + epsilon) * scale + shift`.
    pub fn layer_norm(&self, scale: &Self, shift: &Self, axis: usize, epsilon: f64) -> Self {
        if !self.is_normalised_by("layer-norm", &[scale, shift], axis) {
            return self.clone();
        }
        let (operands, attributes) = ([self, scale, shift], norm_attributes(axis, epsilon));
        self.graph
            .emit("layer-norm", &operands, attributes, self.dtype, &self.shape)
    }

    /// Divided by the root of the mean square over all axes from `axis` on, whose shape
    /// `scale` has: `x / sqrt(mean(x²) + epsilon) * scale`.
    pub fn rms_norm(&self, scale: &Self, axis: usize, epsilon: f64) -> Self {
        if !self.is_normalised_by("rms-norm", &[scale], axis) {
            return self.clone();
        }
        let (operands, attributes) = ([self, scale], norm_attributes(axis, epsilon));
        self.graph
            .emit("rms-norm", &operands, attributes, self.dtype, &self.shape)
    }

    /// `[N, C, …]` normalised for each channel by its statistics in this batch, then times
    /// `scale` and plus `shift`, both `[C]`.
    pub fn batch_norm(&self, scale: &Self, shift: &Self, epsilon: f64) -> BatchNormed {
        if !self.has_channels("batch-norm", &[scale, shift]) {
            let [value, mean, variance] = [(); 3].map(|()| self.clone());
            return BatchNormed {
                value,
                mean,
                variance,
            };
        }
        let channels = &*scale.shape;
        let types = [&*self.shape, channels, channels].map(|shape| (self.dtype, shape));
        let attributes = vec![("epsilon", Attribute::Number(epsilon))];
        let operands = [self, scale, shift];
        let [value, mean, variance] =
            self.graph
                .emit_all("batch-norm", &operands, attributes, types);
        BatchNormed {
            value,
            mean,
            variance,
        }
    }

    /// As [`Var::batch_norm`], with these statistics of each channel instead of its own.
    pub fn batch_norm_inference(
        &self,
        scale: &Self,
        shift: &Self,
        mean: &Self,
        variance: &Self,
        epsilon: f64,
    ) -> Self {
        const OP: &str = "batch-norm-inference";
        if !self.has_channels(OP, &[scale, shift, mean, variance]) {
            return self.clone();
        }
        let attributes = vec![("epsilon", Attribute::Number(epsilon))];
        let operands = [self, scale, shift, mean, variance];
        self.graph
            .emit(OP, &operands, attributes, self.dtype, &self.shape)
    }

    /// `softmax(scale q kᵀ) v` of itself `[B…, T, D]`, `keys` `[B…, S, D]` and `values`
    /// `[B…, S, E]`: `[B…, T, E]`. The scores are never all in memory at once.
    ///
    /// Where `mask`, a `bool` `[B…, T, S]`, is false, a key is not seen; its batch axes
    /// may be 1. With `causal`, query `t` sees the keys up to `t + S - T`. A query that
    /// sees nothing gives 0.
    pub fn attention(
        &self,
        keys: &Self,
        values: &Self,
        mask: Option<&Self>,
        scale: f64,
        causal: bool,
    ) -> Self {
        let fits = match (&*self.shape, &*keys.shape, &*values.shape) {
            ([batch @ .., _, d], [key_batch @ .., s, key_d], [value_batch @ .., value_s, _]) => {
                batch == key_batch && batch == value_batch && d == key_d && s == value_s
            }
            _ => false,
        };
        let one_type = self.dtype == keys.dtype && self.dtype == values.dtype;
        if !fits || !one_type || !self.dtype.is_float() {
            let [q, k, v] = [self, keys, values].map(Self::described);
            self.graph
                .fail(format!("`attention` of {q}, {k} and {v} does not fit"));
            return self.clone();
        }
        let rank = self.shape.len();
        let (before, inner) = (&self.shape[..rank - 1], values.shape[rank - 1]);
        if let Some(mask) = mask {
            let mut expected = [before, &[keys.shape[rank - 2]]].concat();
            for (expected, &size) in expected[..rank - 2].iter_mut().zip(&*mask.shape) {
                *expected = if size == 1 { 1 } else { *expected };
            }
            if mask.dtype != DType::Bool || *mask.shape != *expected {
                return mask.refused("attention", &format!("a mask of bool {expected:?}"));
            }
        }
        let operands: Vec<&Self> = [self, keys, values].into_iter().chain(mask).collect();
        let attributes = vec![
            ("scale", Attribute::Number(scale)),
            ("causal", Attribute::Flag(causal)),
        ];
        let shape = [before, &[inner]].concat();
        let types = [(self.dtype, &*shape), (self.dtype, before)];
        let [value, _logarithms] = self
            .graph
            .emit_all("attention", &operands, attributes, types);
        value
    }

    fn along(&self, op: &str, axis: usize) -> Self {
        if !self.dtype.is_float() {
            return self.refused(op, "floats");
        }
        if self.without(op, &[axis]).is_none() {
            return self.clone();
        }
        let attributes = vec![("axis", integer(axis))];
        self.graph
            .emit(op, &[self], attributes, self.dtype, &self.shape)
    }

    fn pooled(&self, op: &str, size: &[usize], window: &Window) -> Option<Vec<usize>> {
        let shape = match &*self.shape {
            [rows, channels, spatial @ ..] if self.dtype.is_float() && !spatial.is_empty() => {
                let places = window.places(spatial, size);
                places.map(|places| [&[*rows, *channels], &*places].concat())
            }
            _ => None,
        };
        if shape.is_none() {
            let found = self.described();
            self.graph.fail(format!(
                "`{op}` of {found} does not fit windows of {size:?} with {window:?}"
            ));
        }
        shape
    }

    fn is_normalised_by(&self, op: &str, parameters: &[&Self], axis: usize) -> bool {
        let tail = self.shape.get(axis..).filter(|tail| !tail.is_empty());
        let mut parameters = parameters.iter();
        let fits = parameters
            .all(|parameter| parameter.dtype == self.dtype && Some(&*parameter.shape) == tail);
        if !fits || !self.dtype.is_float() {
            self.refused(
                op,
                &format!("floats with parameters for the axes from {axis} on"),
            );
            return false;
        }
        true
    }

    fn has_channels(&self, op: &str, parameters: &[&Self]) -> bool {
        let channels = self.shape.get(1..2);
        let mut parameters = parameters.iter();
        let fits = parameters
            .all(|parameter| parameter.dtype == self.dtype && Some(&*parameter.shape) == channels);
        if !fits || !self.dtype.is_float() {
            self.refused(op, "floats [N, C, …] with parameters [C] of their type");
            return false;
        }
        true
    }

    fn unfit(&self, op: &str, kernel: &Self, window: &Window, groups: usize) -> Self {
        let (x, kernel) = (self.described(), kernel.described());
        self.graph.fail(format!(
            "`{op}` of {x} with the kernel {kernel} in {groups} groups does not fit {window:?}"
        ));
        self.clone()
    }
}

fn divides(groups: usize, channels: usize) -> bool {
    groups > 0 && channels.is_multiple_of(groups)
}

fn norm_attributes(axis: usize, epsilon: f64) -> Vec<(&'static str, Attribute)> {
    vec![
        ("axis", integer(axis)),
        ("epsilon", Attribute::Number(epsilon)),
    ]
}
