use std::fmt;
use std::rc::Rc;

use super::{Graph, dtype_attribute, integer, integers, same};
use crate::DType;
use crate::compute::{Attribute, Value};

/// A value of a program that is being recorded. Cheap to clone.
///
/// Its methods record instructions and answer their results; a mistake is kept by the
/// [`Graph`], and the answer then is any value.
#[derive(Clone)]
pub struct Var {
    pub(super) graph: Graph,
    pub(super) value: Value,
    pub(super) dtype: DType,
    pub(super) shape: Rc<[usize]>,
}

impl Var {
    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The graph it belongs to.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The result of an instruction that it stands for.
    pub fn value(&self) -> Value {
        self.value
    }

    /// Whether both are the same result of the same instruction.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.graph.is(&other.graph) && same(self.value, other.value)
    }

    /// Its absolute value.
    pub fn abs(&self) -> Self {
        self.number("abs")
    }

    /// -1, 0 or 1. Its gradient is 0.
    pub fn sign(&self) -> Self {
        self.number("sign")
    }

    /// Itself times itself.
    pub fn square(&self) -> Self {
        self.number("square")
    }

    /// The exponential function.
    pub fn exp(&self) -> Self {
        self.float("exp")
    }

    /// `exp(x) - 1`, exact near 0.
    pub fn expm1(&self) -> Self {
        self.float("expm1")
    }

    /// `log(1 + x)`, exact near 0.
    pub fn log1p(&self) -> Self {
        self.float("log1p")
    }

    /// The natural logarithm.
    pub fn log(&self) -> Self {
        self.float("log")
    }

    /// The square root.
    pub fn sqrt(&self) -> Self {
        self.float("sqrt")
    }

    /// One divided by the square root.
    pub fn rsqrt(&self) -> Self {
        self.float("rsqrt")
    }

    /// The sine.
    pub fn sin(&self) -> Self {
        self.float("sin")
    }

    /// The cosine.
    pub fn cos(&self) -> Self {
        self.float("cos")
    }

    /// The error function.
    pub fn erf(&self) -> Self {
        self.float("erf")
    }

    /// The largest whole number that is not larger. Its gradient is 0.
    pub fn floor(&self) -> Self {
        self.float("floor")
    }

    /// The smallest whole number that is not smaller. Its gradient is 0.
    pub fn ceil(&self) -> Self {
        self.float("ceil")
    }

    /// The nearest whole number, of two the even one. Its gradient is 0.
    pub fn round(&self) -> Self {
        self.float("round")
    }

    /// Whether it is neither infinite nor NaN.
    pub fn is_finite(&self) -> Self {
        if !self.dtype.is_float() {
            return self.refused("is-finite", "floats");
        }
        self.graph
            .emit("is-finite", &[self], vec![], DType::Bool, &self.shape)
    }

    /// The hyperbolic tangent.
    pub fn tanh(&self) -> Self {
        self.float("tanh")
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&self) -> Self {
        self.float("sigmoid")
    }

    /// The larger of itself and 0, NaN where it is NaN. Its gradient at 0 is 0, as in
    /// PyTorch.
    pub fn relu(&self) -> Self {
        let zero = self.full_like(0.0);
        self.less_equal(&zero).select(&zero, self)
    }

    /// The logarithm of [`Var::sigmoid`], computed without overflow.
    pub fn log_sigmoid(&self) -> Self {
        -(-self).softplus()
    }

    /// `log(1 + exp(x))`, computed without overflow.
    pub fn softplus(&self) -> Self {
        self.relu() + (-self.abs()).exp().log1p()
    }

    /// Itself times its [`Var::sigmoid`]: SiLU, or swish.
    pub fn silu(&self) -> Self {
        self * self.sigmoid()
    }

    /// The Gaussian error linear unit: itself times the normal distribution's share below
    /// it. PyTorch's default.
    ///
    /// Source: D. Hendrycks, K. Gimpel, "Gaussian error linear units (GELUs)", 2016,
    /// section 2.
    pub fn gelu_exact(&self) -> Self {
        let share = ((self * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
        self * share
    }

    /// The Gaussian error linear unit in its tanh form; source as [`Var::gelu_exact`].
    pub fn gelu(&self) -> Self {
        const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
        let cubic = self * self.square() * 0.044_715;
        let inner = (self + cubic) * SQRT_2_OVER_PI;
        self * 0.5 * (inner.tanh() + 1.0)
    }

    /// A constant of its type and shape.
    pub fn full_like(&self, value: f64) -> Self {
        self.graph.full(self.dtype, &self.shape, value)
    }

    /// Its elements as another type: floats to integers truncate and saturate, NaN
    /// becomes 0; to `bool` is "not 0". Records nothing when it has the type already.
    pub fn convert(&self, dtype: DType) -> Self {
        if dtype == self.dtype {
            return self.clone();
        }
        let attributes = vec![dtype_attribute(dtype)];
        self.graph
            .emit("convert", &[self], attributes, dtype, &self.shape)
    }

    /// Itself, with a gradient of 0.
    pub fn stop_gradient(&self) -> Self {
        let (dtype, shape) = (self.dtype, &self.shape);
        self.graph
            .emit("stop-gradient", &[self], vec![], dtype, shape)
    }

    /// Logical negation of a `bool`; of an integer, all bits inverted.
    pub fn logical_not(&self) -> Self {
        if self.dtype.is_float() {
            return self.refused("not", "bool or integers");
        }
        self.graph
            .emit("not", &[self], vec![], self.dtype, &self.shape)
    }

    /// The sum over `axes`, which are removed.
    pub fn sum(&self, axes: &[usize]) -> Self {
        self.reduced("reduce-sum", axes)
    }

    /// The mean over `axes`, which are removed.
    pub fn mean(&self, axes: &[usize]) -> Self {
        self.reduced_float("reduce-mean", axes, vec![])
    }

    /// The largest element over `axes`, which are removed.
    pub fn max(&self, axes: &[usize]) -> Self {
        self.reduced("reduce-max", axes)
    }

    /// The smallest element over `axes`, which are removed.
    pub fn min(&self, axes: &[usize]) -> Self {
        self.reduced("reduce-min", axes)
    }

    /// The product over `axes`, which are removed.
    pub fn product(&self, axes: &[usize]) -> Self {
        self.reduced("reduce-product", axes)
    }

    /// Whether any is true over `axes`, which are removed. For `bool`.
    pub fn any(&self, axes: &[usize]) -> Self {
        self.reduced_bool("reduce-any", axes)
    }

    /// Whether all are true over `axes`, which are removed. For `bool`.
    pub fn all(&self, axes: &[usize]) -> Self {
        self.reduced_bool("reduce-all", axes)
    }

    /// The mean squared distance from the mean over `axes`, which are removed, times
    /// `n / (n - correction)`; NaN when there are no more elements than `correction`,
    /// which is 0 or 1.
    pub fn variance(&self, axes: &[usize], correction: usize) -> Self {
        let correction = ("correction", integer(correction));
        self.reduced_float("reduce-variance", axes, vec![correction])
    }

    /// The logarithm of the sum of exponentials over `axes`, which are removed, computed
    /// without overflow.
    pub fn log_sum_exp(&self, axes: &[usize]) -> Self {
        self.reduced_float("reduce-logsumexp", axes, vec![])
    }

    /// The sum of all elements, of rank 0.
    pub fn sum_all(&self) -> Self {
        self.sum(&self.all_axes())
    }

    /// The mean of all elements, of rank 0.
    pub fn mean_all(&self) -> Self {
        self.mean(&self.all_axes())
    }

    /// What it is, for error messages: `f32 [32, 10]`.
    pub(super) fn described(&self) -> String {
        format!("{} {:?}", self.dtype, self.shape)
    }

    /// Keeps the mistake that `op` takes something else.
    pub(crate) fn refused(&self, op: &str, expected: &str) -> Self {
        let found = self.described();
        self.graph
            .fail(format!("`{op}` takes {expected}, but got {found}"));
        self.clone()
    }

    /// The shape without `axes`; none, and a mistake, when they are not its axes.
    pub(super) fn without(&self, op: &str, axes: &[usize]) -> Option<Vec<usize>> {
        let increasing = axes.windows(2).all(|pair| pair[0] < pair[1]);
        if !increasing || axes.iter().any(|&axis| axis >= self.shape.len()) {
            let shape = &self.shape;
            self.graph.fail(format!(
                "`{op}` over axes {axes:?} does not fit the shape {shape:?}"
            ));
            return None;
        }
        let kept = self.shape.iter().enumerate();
        Some(
            kept.filter(|(axis, _)| !axes.contains(axis))
                .map(|(_, &size)| size)
                .collect(),
        )
    }

    fn all_axes(&self) -> Vec<usize> {
        (0..self.shape.len()).collect()
    }

    fn number(&self, op: &str) -> Self {
        if self.dtype == DType::Bool {
            return self.refused(op, "numbers");
        }
        self.graph
            .emit(op, &[self], vec![], self.dtype, &self.shape)
    }

    fn float(&self, op: &str) -> Self {
        if !self.dtype.is_float() {
            return self.refused(op, "floats");
        }
        self.graph
            .emit(op, &[self], vec![], self.dtype, &self.shape)
    }

    fn reduced(&self, op: &str, axes: &[usize]) -> Self {
        if self.dtype == DType::Bool {
            return self.refused(op, "numbers");
        }
        self.reduced_with(op, axes, vec![])
    }

    fn reduced_bool(&self, op: &str, axes: &[usize]) -> Self {
        if self.dtype != DType::Bool {
            return self.refused(op, "bool");
        }
        self.reduced_with(op, axes, vec![])
    }

    fn reduced_float(&self, op: &str, axes: &[usize], more: Vec<(&str, Attribute)>) -> Self {
        if !self.dtype.is_float() {
            return self.refused(op, "floats");
        }
        self.reduced_with(op, axes, more)
    }

    fn reduced_with(&self, op: &str, axes: &[usize], more: Vec<(&str, Attribute)>) -> Self {
        let Some(shape) = self.without(op, axes) else {
            return self.clone();
        };
        let mut attributes = vec![("axes", integers(axes))];
        attributes.extend(more);
        self.graph.emit(op, &[self], attributes, self.dtype, &shape)
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.value.instruction;
        write!(formatter, "%{at}: {}", self.described())
    }
}
