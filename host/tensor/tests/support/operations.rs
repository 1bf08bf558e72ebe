//! The operations of `docs/programs.md`, and random instances of each: what every operation
//! has to obey is tested over this list.

use std::collections::BTreeSet;

use trainshed_tensor::{Attribute, Body, DType, Instruction, Program, Tensor, Value};

use super::random::Random;
use super::{Build, list};

/// Where the values of a program come from: every instance has them.
pub(crate) const SOURCES: [&str; 2] = ["input", "state"];

/// A row of the reference.
pub(crate) struct Documented {
    pub(crate) name: String,
    /// Whether the row says that there is no gradient.
    pub(crate) without_gradient: bool,
}

/// All operations that `docs/programs.md` has a row for.
pub(crate) fn documented() -> Vec<Documented> {
    let page = include_str!("../../../../docs/programs.md");
    let mut operations = Vec::new();
    for line in page.lines() {
        let mut columns = line.split('|').map(str::trim).skip(1);
        let Some(names) = columns.next().filter(|names| names.starts_with('`')) else {
            continue;
        };
        let without_gradient = columns.any(|text| text == "none" || text.contains("No gradient"));
        // Attributes are in brackets behind the name.
        let mut depth = 0;
        let outside: String = names
            .chars()
            .filter(|&letter| {
                depth += i32::from(letter == '(');
                let outside = depth == 0;
                depth -= i32::from(letter == ')');
                outside
            })
            .collect();
        for name in outside.split('`').skip(1).step_by(2) {
            operations.push(Documented {
                name: name.to_owned(),
                without_gradient,
            });
        }
    }
    operations
}

/// All names that the checker accepts, from its own text.
pub(crate) fn known() -> BTreeSet<String> {
    let rules = include_str!("../../src/check/rules.rs");
    let arms = rules.lines().filter_map(|line| {
        let (name, rest) = line.trim().strip_prefix('"')?.split_once('"')?;
        (rest.starts_with(" =>") || rest.starts_with(" if ")).then(|| name.to_owned())
    });
    let tables = include_str!("../../src/ir.rs").lines().filter_map(|line| {
        let name = line.trim().strip_suffix("\",")?.split_once(" = \"")?.1;
        Some(name.to_owned())
    });
    arms.chain(tables).collect()
}

/// An operand that an instance is given; of the float type under test when it has none.
pub(crate) struct Operand {
    pub(crate) dtype: Option<DType>,
    pub(crate) shape: Vec<usize>,
    pub(crate) numbers: Vec<f64>,
}

impl Operand {
    pub(crate) fn tensor(&self, float: DType) -> Tensor {
        let shape: Vec<u64> = self.shape.iter().map(|&size| size as u64).collect();
        super::tensor(self.dtype.unwrap_or(float), &shape, &self.numbers)
    }
}

/// An operation with operands and attributes that fit it. Floats are multiples of 1/32 that
/// every float type holds; the float type itself is called `float`.
pub(crate) struct Instance {
    pub(crate) op: String,
    pub(crate) operands: Vec<Operand>,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
    pub(crate) bodies: Vec<Body>,
    pub(crate) results: u32,
    /// Results that a gradient flows through, from the first one on.
    pub(crate) smooth: u32,
}

impl Instance {
    pub(crate) fn inputs(&self, float: DType) -> Vec<Tensor> {
        let operands = self.operands.iter();
        operands.map(|operand| operand.tensor(float)).collect()
    }

    /// A program of the operation alone, its operands and its first result. When `wide`, it
    /// is computed in `f32` from operands of the type.
    pub(crate) fn program(&self, float: DType, wide: bool) -> (Program, Vec<Value>, Value) {
        let inner = if wide { DType::F32 } else { float };
        let bodies = self.bodies.iter().map(|body| Body {
            instructions: body
                .instructions
                .iter()
                .map(|instruction| typed(instruction, inner))
                .collect(),
            outputs: body.outputs.clone(),
        });
        let mut program = Program {
            bodies: bodies.collect(),
            ..Program::default()
        };
        let operands: Vec<Value> = self
            .operands
            .iter()
            .enumerate()
            .map(|(index, operand)| {
                let dtype = operand.dtype.unwrap_or(float);
                program.source("input", index as i64, dtype, &operand.shape)
            })
            .collect();
        let mut given = operands.clone();
        if self.op == "attention-gradient" {
            // Its operands must be what `attention` returns for the others.
            let up = given.len() - 1;
            let forward = program.push("attention", &given[..up], &self.attributes);
            given.splice(up..up, [forward, forward.result(1)]);
        }
        if wide {
            for (place, value) in given.iter_mut().enumerate() {
                let fixed = self
                    .operands
                    .get(place)
                    .is_some_and(|operand| operand.dtype.is_some());
                if !fixed {
                    *value = program.push("convert", &[*value], &[("dtype", "f32".into())]);
                }
            }
        }
        let instruction = Instruction {
            op: self.op.clone(),
            operands: given,
            attributes: self
                .attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            label: None,
        };
        let instruction = typed(&instruction, inner);
        let attributes: Vec<(&str, Attribute)> = instruction
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        let result = program.push(&self.op, &instruction.operands, &attributes);
        (program, operands, result)
    }
}

/// The instruction with floats of that type.
fn typed(instruction: &Instruction, float: DType) -> Instruction {
    let mut instruction = instruction.clone();
    for (_, value) in &mut instruction.attributes {
        if *value == Attribute::from("float") {
            *value = float.name().into();
        }
    }
    instruction
}

/// Makes instances.
struct Maker<'a> {
    random: &'a mut Random,
    /// Numbers that are all different, so that extremes have one place.
    numbers: Vec<f64>,
    operands: Vec<Operand>,
    attributes: Vec<(&'static str, Attribute)>,
    bodies: Vec<Body>,
    results: u32,
    smooth: Option<u32>,
}

/// A random instance of the operation; `None` for [`SOURCES`].
///
/// # Panics
/// When it does not know the operation: a new one needs an arm here.
pub(crate) fn instance(op: &str, random: &mut Random) -> Option<Instance> {
    if SOURCES.contains(&op) {
        return None;
    }
    let mut maker = Maker {
        random,
        numbers: Vec::new(),
        operands: Vec::new(),
        attributes: Vec::new(),
        bodies: Vec::new(),
        results: 1,
        smooth: None,
    };
    maker.make(op);
    Some(Instance {
        op: op.to_owned(),
        smooth: maker.smooth.unwrap_or(maker.results),
        operands: maker.operands,
        attributes: maker.attributes,
        bodies: maker.bodies,
        results: maker.results,
    })
}

impl Maker<'_> {
    fn number(&mut self) -> f64 {
        if self.numbers.is_empty() {
            let all = (-64..=64).filter(|&number| number != 0);
            self.numbers = all.map(|number| f64::from(number) / 16.0).collect();
            for place in (1..self.numbers.len()).rev() {
                self.numbers.swap(place, self.random.below(place + 1));
            }
        }
        self.numbers.pop().unwrap()
    }

    fn float_of(&mut self, shape: &[usize], change: impl Fn(f64) -> f64) {
        let numbers = (0..shape.iter().product())
            .map(|_| self.number())
            .map(change);
        let numbers = numbers.collect();
        self.operands.push(Operand {
            dtype: None,
            shape: shape.to_vec(),
            numbers,
        });
    }

    fn float(&mut self, shape: &[usize]) {
        self.float_of(shape, |number| number);
    }

    /// Whole numbers from `least`, below `limit`.
    fn whole(&mut self, dtype: DType, shape: &[usize], least: i32, limit: i32) {
        let range = limit.abs_diff(least) as usize;
        let numbers = (0..shape.iter().product::<usize>())
            .map(|_| f64::from(least) + self.random.below(range) as f64);
        let numbers = numbers.collect();
        self.operands.push(Operand {
            dtype: Some(dtype),
            shape: shape.to_vec(),
            numbers,
        });
    }

    /// At most 36 elements: three such operands hold different numbers.
    fn shape(&mut self) -> Vec<usize> {
        let rank = self.random.below(4);
        (0..rank)
            .map(|_| self.random.pick(&[0, 1, 2, 3, 3]))
            .collect()
    }

    /// A shape of rank 1 or more, and an axis of it.
    fn shape_and_axis(&mut self) -> (Vec<usize>, usize) {
        let mut shape = self.shape();
        if shape.is_empty() {
            shape.push(3);
        }
        let axis = self.random.below(shape.len());
        self.attribute("axis", axis as i64);
        (shape, axis)
    }

    /// As [`Maker::shape_and_axis`], with an axis that is not empty.
    fn shape_and_full_axis(&mut self) -> (Vec<usize>, usize) {
        let (mut shape, axis) = self.shape_and_axis();
        shape[axis] = shape[axis].max(2);
        (shape, axis)
    }

    fn subset(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|_| self.random.below(2) == 0).collect()
    }

    fn attribute(&mut self, name: &'static str, value: impl Into<Attribute>) {
        self.attributes.push((name, value.into()));
    }

    fn sizes(&mut self, name: &'static str, sizes: &[usize]) {
        let sizes: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
        self.attribute(name, list(&sizes));
    }

    fn flag(&mut self, name: &'static str) {
        let flag = self.random.below(2) == 0;
        self.attribute(name, flag);
    }

    /// Numbers up to `limit`, included, one per entry of `shape`.
    fn amounts(&mut self, count: usize, limit: usize) -> Vec<usize> {
        (0..count).map(|_| self.random.below(limit + 1)).collect()
    }

    fn make(&mut self, op: &str) {
        match op {
            "constant" | "iota" => self.source(op),
            "convert" => {
                let shape = self.shape();
                self.float(&shape);
                self.attribute("dtype", "f64");
            }
            "negate" | "abs" | "sign" | "square" | "exp" | "expm1" | "sin" | "cos" | "tanh"
            | "sigmoid" | "erf" | "is-finite" | "stop-gradient" => {
                let shape = self.shape();
                self.float(&shape);
            }
            "floor" | "ceil" | "round" => {
                let shape = self.shape();
                self.float_of(&shape, |number| number.floor() + 0.1875);
            }
            "log" | "log1p" | "sqrt" | "rsqrt" => {
                let shape = self.shape();
                self.float_of(&shape, f64::abs);
            }
            "add" | "subtract" | "multiply" | "divide" | "maximum" | "minimum" | "atan2"
            | "remainder" | "equal" | "not-equal" | "less" | "less-equal" | "greater"
            | "greater-equal" => {
                let shape = self.shape();
                self.float(&shape);
                self.float(&shape);
            }
            "power" => {
                let shape = self.shape();
                self.float_of(&shape, f64::abs);
                self.float_of(&shape, |number| number / 2.0);
            }
            "and" | "or" | "xor" => {
                let shape = self.shape();
                let dtype = self.random.pick(&[DType::Bool, DType::I32, DType::U8]);
                for _ in 0..2 {
                    self.whole(dtype, &shape, 0, 2);
                }
            }
            "not" => {
                let shape = self.shape();
                self.whole(DType::Bool, &shape, 0, 2);
            }
            "select" => {
                let shape = self.shape();
                self.whole(DType::Bool, &shape, 0, 2);
                self.float(&shape);
                self.float(&shape);
            }
            "clamp" => {
                let shape = self.shape();
                self.float(&shape);
                self.float_of(&shape, |number| -number.abs() - 0.03125);
                self.float_of(&shape, |number| number.abs() + 0.03125);
            }
            "reshape"
            | "squeeze"
            | "transpose"
            | "broadcast"
            | "concatenate"
            | "split"
            | "slice"
            | "pad"
            | "pad-edge"
            | "reverse"
            | "dynamic-slice"
            | "dynamic-update-slice" => self.shapes(op),
            "reduce-sum" | "reduce-mean" | "reduce-product" | "reduce-max" | "reduce-min"
            | "reduce-any" | "reduce-all" | "reduce-variance" | "reduce-logsumexp" => {
                self.reduction(op);
            }
            "arg-max" | "arg-min" | "cumulative-sum" | "cumulative-product" | "sort" | "top-k"
            | "softmax" | "log-softmax" => self.along_an_axis(op),
            "take"
            | "take-along-axis"
            | "scatter-add"
            | "scatter-set"
            | "scatter-add-along-axis"
            | "one-hot" => self.indexing(op),
            "dot-general" => self.product(),
            "convolution" | "convolution-transpose" | "convolution-kernel" => self.convolution(op),
            "max-pool" | "average-pool" | "average-pool-transpose" => self.pool(op),
            "layer-norm" | "layer-norm-gradient" | "rms-norm" | "rms-norm-gradient" => {
                self.norm(op);
            }
            "batch-norm" | "batch-norm-gradient" | "batch-norm-inference" => self.batch_norm(op),
            "attention" | "attention-gradient" => self.attention(op),
            "random-bits" | "random-fold" | "random-uniform" | "random-normal"
            | "random-bernoulli" | "random-permutation" | "dropout" => self.random_numbers(op),
            "scan" => self.scan(),
            "while" => self.while_loop(),
            _ => panic!("`{op}` has no instances here"),
        }
    }

    fn source(&mut self, op: &str) {
        let mut shape = self.shape();
        self.attribute("dtype", "float");
        if op == "constant" {
            self.sizes("shape", &shape);
            self.attribute("value", 0.1);
            return;
        }
        shape.push(300);
        let axis = self.random.below(shape.len());
        self.sizes("shape", &shape);
        self.attribute("axis", axis as i64);
    }

    fn shapes(&mut self, op: &str) {
        let shape = self.shape();
        let rank = shape.len();
        match op {
            "reshape" => {
                self.float(&shape);
                self.sizes("shape", &[1, shape.iter().product()]);
            }
            "squeeze" => {
                let mut wide = Vec::new();
                let mut axes = Vec::new();
                for &size in &shape {
                    if self.random.below(2) == 0 {
                        axes.push(wide.len());
                        wide.push(1);
                    }
                    wide.push(size);
                }
                self.float(&wide);
                self.sizes("axes", &axes);
            }
            "transpose" => {
                self.float(&shape);
                let turn = self.random.below(rank + 1);
                let order: Vec<usize> = (0..rank).map(|axis| (axis + turn) % rank).collect();
                self.sizes("permutation", &order);
            }
            "broadcast" => {
                let (mut from, mut to, mut axes) = (Vec::new(), Vec::new(), Vec::new());
                for &size in &shape {
                    if self.random.below(3) > 0 {
                        axes.push(to.len());
                        from.push(if self.random.below(2) == 0 { 1 } else { size });
                    }
                    to.push(size);
                }
                self.float(&from);
                self.sizes("shape", &to);
                self.sizes("axes", &axes);
            }
            "concatenate" | "split" => {
                let (mut shape, axis) = self.shape_and_axis();
                let sizes = self.amounts(3, 2);
                if op == "split" {
                    shape[axis] = sizes.iter().sum();
                    self.float(&shape);
                    self.sizes("sizes", &sizes);
                    self.results = 3;
                } else {
                    for size in sizes {
                        shape[axis] = size;
                        self.float(&shape);
                    }
                }
            }
            "slice" => {
                self.float(&shape);
                let starts: Vec<usize> = shape
                    .iter()
                    .map(|&size| self.random.below(size + 1))
                    .collect();
                let limits = starts.iter().zip(&shape);
                let limits: Vec<usize> = limits
                    .map(|(&start, &size)| start + self.random.below(size - start + 1))
                    .collect();
                let strides: Vec<usize> = shape.iter().map(|_| 1 + self.random.below(3)).collect();
                self.sizes("starts", &starts);
                self.sizes("limits", &limits);
                self.sizes("strides", &strides);
            }
            "pad" => {
                self.float(&shape);
                self.float(&[]);
                let (mut low, mut high, mut interior) = (Vec::new(), Vec::new(), Vec::new());
                for &size in &shape {
                    let gap = self.random.below(3);
                    let inside = (size + size.saturating_sub(1) * gap) as i64;
                    let before = self.random.below(5) as i64 - 2;
                    low.push(before);
                    high.push((self.random.below(5) as i64 - 2).max(-inside - before));
                    interior.push(gap as i64);
                }
                self.attribute("low", list(&low));
                self.attribute("high", list(&high));
                self.attribute("interior", list(&interior));
            }
            "pad-edge" => {
                self.float(&shape);
                let amount =
                    |size: usize, random: &mut Random| if size == 0 { 0 } else { random.below(3) };
                for name in ["low", "high"] {
                    let amounts: Vec<usize> = shape
                        .iter()
                        .map(|&size| amount(size, self.random))
                        .collect();
                    self.sizes(name, &amounts);
                }
            }
            "reverse" => {
                self.float(&shape);
                let axes = self.subset(rank);
                self.sizes("axes", &axes);
            }
            _ => {
                let inner: Vec<usize> = shape
                    .iter()
                    .map(|&size| self.random.below(size + 1))
                    .collect();
                self.float(&shape);
                if op == "dynamic-slice" {
                    self.sizes("sizes", &inner);
                } else {
                    self.float(&inner);
                }
                self.whole(DType::I32, &[rank], -2, 5);
            }
        }
    }

    fn reduction(&mut self, op: &str) {
        let mut shape = self.shape();
        let axes = self.subset(shape.len());
        self.sizes("axes", &axes);
        match op {
            "reduce-any" | "reduce-all" => return self.whole(DType::Bool, &shape, 0, 2),
            "reduce-max" | "reduce-min" => {
                for axis in axes {
                    shape[axis] = shape[axis].max(1);
                }
            }
            "reduce-variance" => {
                let correction = self.random.below(2);
                self.attribute("correction", correction as i64);
            }
            _ => {}
        }
        self.float(&shape);
    }

    fn along_an_axis(&mut self, op: &str) {
        let (shape, axis) = match op {
            "arg-max" | "arg-min" => self.shape_and_full_axis(),
            _ => self.shape_and_axis(),
        };
        self.float(&shape);
        match op {
            "cumulative-sum" | "cumulative-product" => self.flag("reverse"),
            "sort" => self.flag("descending"),
            "top-k" => {
                let k = self.random.below(shape[axis] + 1);
                self.attribute("k", k as i64);
            }
            _ => {}
        }
        if matches!(op, "sort" | "top-k") {
            self.results = 2;
        }
    }

    fn indexing(&mut self, op: &str) {
        if op == "one-hot" {
            let shape = self.shape();
            self.whole(DType::I64, &shape, -1, 5);
            self.attribute("classes", 3);
            self.attribute("dtype", "float");
            return;
        }
        let (shape, axis) = self.shape_and_full_axis();
        let dtype = self.random.pick(&[DType::I32, DType::I64]);
        let count = self.random.pick(&[0, 1, 4]);
        let mut along = shape.clone();
        along[axis] = count;
        self.float(&shape);
        match op {
            "take" => {
                let indices: &[usize] = self.random.pick(&[&[], &[4], &[2, 2], &[0]]);
                self.whole(dtype, indices, -2, 5);
            }
            "take-along-axis" | "scatter-add-along-axis" => self.whole(dtype, &along, -2, 5),
            _ => self.whole(dtype, &[count], -2, 5),
        }
        if op.starts_with("scatter") {
            self.float(&along);
        }
    }

    fn product(&mut self) {
        let (mut lhs, mut rhs) = (Vec::new(), Vec::new());
        let mut axes = [const { Vec::new() }; 4];
        let rank = self.random.below(4);
        for _ in 0..rank {
            let size = self.random.pick(&[0, 1, 2, 3, 3]);
            match self.random.below(4) {
                0 => {
                    axes[0].push(lhs.len());
                    axes[1].push(rhs.len());
                    lhs.push(size);
                    rhs.push(size);
                }
                1 => {
                    axes[2].push(lhs.len());
                    axes[3].push(rhs.len());
                    lhs.push(size);
                    rhs.push(size);
                }
                2 => lhs.push(size),
                _ => rhs.push(size),
            }
        }
        self.float(&lhs);
        self.float(&rhs);
        let names = ["lhs-batch", "rhs-batch", "lhs-contract", "rhs-contract"];
        for (name, axes) in names.into_iter().zip(axes) {
            self.sizes(name, &axes);
        }
    }

    fn convolution(&mut self, op: &str) {
        let axes = 1 + self.random.below(2);
        let groups = 1 + self.random.below(2);
        let batch = self.random.below(3);
        let inside = 1 + self.random.below(2);
        let outside = groups * (1 + self.random.below(2));
        let window: Vec<usize> = (0..axes).map(|_| 1 + self.random.below(3)).collect();
        let strides: Vec<usize> = (0..axes).map(|_| 1 + self.random.below(2)).collect();
        let dilation: Vec<usize> = (0..axes).map(|_| 1 + self.random.below(2)).collect();
        let padding = self.amounts(2 * axes, 2);
        let (mut spatial, mut places) = (Vec::new(), Vec::new());
        for axis in 0..axes {
            let reach = dilation[axis] * (window[axis] - 1) + 1;
            let size = reach + self.random.below(3);
            let room = size + padding[2 * axis] + padding[2 * axis + 1] - reach;
            spatial.push(size);
            places.push(room / strides[axis] + 1);
        }
        let x = [&[batch, groups * inside], &spatial[..]].concat();
        let y = [&[batch, outside], &places[..]].concat();
        let kernel = [&[outside, inside], &window[..]].concat();
        match op {
            "convolution" => {
                self.float(&x);
                self.float(&kernel);
            }
            "convolution-transpose" => {
                self.float(&y);
                self.float(&kernel);
                self.sizes("spatial", &spatial);
            }
            _ => {
                self.float(&x);
                self.float(&y);
                self.sizes("window", &window);
            }
        }
        self.sizes("strides", &strides);
        self.sizes("padding", &padding);
        self.sizes("dilation", &dilation);
        self.attribute("groups", groups as i64);
    }

    fn pool(&mut self, op: &str) {
        let axes = 1 + self.random.below(2);
        let leading = [self.random.below(3), 1 + self.random.below(2)];
        let (mut window, mut strides, mut padding) = (Vec::new(), Vec::new(), Vec::new());
        let (mut spatial, mut places) = (Vec::new(), Vec::new());
        for _ in 0..axes {
            let size = 1 + self.random.below(3);
            let (low, high) = (self.random.below(size), self.random.below(size));
            let stride = 1 + self.random.below(2);
            let steps = size + self.random.below(3);
            window.push(size);
            padding.extend([low, high]);
            strides.push(stride);
            spatial.push(steps);
            places.push((steps + low + high - size) / stride + 1);
        }
        let x = [&leading, &spatial[..]].concat();
        if op == "average-pool-transpose" {
            self.float(&[&leading, &places[..]].concat());
            self.sizes("spatial", &spatial);
        } else {
            self.float(&x);
        }
        self.sizes("window", &window);
        self.sizes("strides", &strides);
        self.sizes("padding", &padding);
        if op == "max-pool" {
            self.sizes("dilation", &vec![1; axes]);
            self.results = 2;
        } else {
            self.flag("count-padding");
        }
    }

    fn norm(&mut self, op: &str) {
        let (shape, axis) = self.shape_and_full_axis();
        self.attribute("epsilon", 0.25);
        self.float(&shape);
        self.float(&shape[axis..]);
        match op {
            "layer-norm" => self.float(&shape[axis..]),
            "rms-norm" => {}
            _ => {
                self.float(&shape);
                self.results = if op == "rms-norm-gradient" { 2 } else { 3 };
            }
        }
    }

    fn batch_norm(&mut self, op: &str) {
        let mut shape = vec![1 + self.random.below(3), 1 + self.random.below(3)];
        shape.extend(self.amounts(2, 3).into_iter().filter(|&size| size > 1));
        let channels = [shape[1]];
        self.attribute("epsilon", 0.25);
        self.float(&shape);
        self.float(&channels);
        match op {
            "batch-norm" => {
                self.float(&channels);
                (self.results, self.smooth) = (3, Some(1));
            }
            "batch-norm-gradient" => {
                self.float(&shape);
                self.results = 3;
            }
            _ => {
                self.float(&channels);
                self.float(&channels);
                self.float_of(&channels, f64::abs);
            }
        }
    }

    fn attention(&mut self, op: &str) {
        let batch: &[usize] = self.random.pick(&[&[], &[2], &[0], &[2, 1]]);
        let [queries, keys] = [0; 2].map(|_| self.random.pick(&[0, 1, 2, 3, 4]));
        let [depth, width] = [0; 2].map(|_| 1 + self.random.below(3));
        let of = |sizes: [usize; 2]| [batch, &sizes[..]].concat();
        // Scores of moderate size, so that no share is lost.
        for sizes in [[queries, depth], [keys, depth]] {
            self.float_of(&of(sizes), |number| number / 2.0);
        }
        self.float(&of([keys, width]));
        if self.random.below(2) == 0 {
            self.whole(DType::Bool, &of([queries, keys]), 0, 2);
        }
        self.attribute("scale", 0.5);
        self.flag("causal");
        if op == "attention" {
            (self.results, self.smooth) = (2, Some(1));
        } else {
            self.float(&of([queries, width]));
            self.results = 3;
        }
    }

    fn random_numbers(&mut self, op: &str) {
        let shape = self.shape();
        let key = |maker: &mut Self| maker.whole(DType::U32, &[2], 0, 1000);
        if op == "dropout" {
            self.float(&shape);
        }
        key(self);
        match op {
            "random-fold" => return self.whole(DType::U32, &[], 0, 1000),
            "random-permutation" => {
                let size = self.random.below(9);
                self.attribute("size", size as i64);
            }
            "dropout" => self.attribute("rate", 0.3),
            _ => self.sizes("shape", &shape),
        }
        match op {
            "random-uniform" | "random-normal" => self.attribute("dtype", "float"),
            "random-bernoulli" => self.attribute("probability", 0.3),
            _ => {}
        }
        let stream = self.random.below(9);
        self.attribute("stream", stream as i64);
    }

    fn scan(&mut self) {
        let (width, length) = (self.random.below(3), self.random.below(4));
        let mut body = Body::default();
        let mut program = Program::default();
        let [carry, slice, weight] = [0, 1, 2].map(|index| input(&mut program, index, &[width]));
        let product = program.op("multiply", &[carry, weight]);
        let sum = program.op("add", &[product, slice]);
        let next = program.op("tanh", &[sum]);
        let stacked = program.op("multiply", &[carry, slice]);
        body.instructions = program.instructions;
        body.outputs = vec![next, stacked];
        self.bodies.push(body);
        self.float(&[width]);
        self.float(&[length, width]);
        self.float(&[width]);
        for (name, value) in [("body", 0), ("carries", 1), ("sequences", 1)] {
            self.attribute(name, value);
        }
        self.attribute("length", length as i64);
        self.flag("reverse");
        self.results = 2;
    }

    fn while_loop(&mut self) {
        let mut condition = Program::default();
        let [carry, least] = [0, 1].map(|index| input(&mut condition, index, &[]));
        let more = condition.op("greater", &[carry, least]);
        let mut body = Program::default();
        let [carry, least] = [0, 1].map(|index| input(&mut body, index, &[]));
        let next = body.op("subtract", &[carry, least]);
        for (program, output) in [(condition, more), (body, next)] {
            self.bodies.push(Body {
                instructions: program.instructions,
                outputs: vec![output],
            });
        }
        self.float(&[]);
        self.float_of(&[], f64::abs);
        for (name, value) in [("condition", 0), ("body", 1), ("carries", 1), ("limit", 5)] {
            self.attribute(name, value);
        }
    }
}

/// An input of a body, of the float type under test.
fn input(program: &mut Program, index: i64, shape: &[usize]) -> Value {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let attributes = [
        ("index", index.into()),
        ("dtype", "float".into()),
        ("shape", list(&shape)),
    ];
    program.push("input", &[], &attributes)
}
