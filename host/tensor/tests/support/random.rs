//! Random programs that obey every rule, and random tensors for their inputs.

use trainshed_tensor::{Attribute, DType, Program, Tensor, Value};

use super::{Build, budget, list};

/// A small generator of numbers: the same on every machine.
pub(crate) struct Random {
    state: u64,
    /// What dimensions are picked of.
    sizes: &'static [usize],
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self {
            state: seed ^ 0x9e37_79b9_7f4a_7c15,
            sizes: &[0, 1, 2, 3, 3, 4, 5],
        };
        random.below(2);
        random
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) as usize) % limit
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number from -2 to 2 that is not close to 0.
    pub(crate) fn number(&mut self) -> f32 {
        let magnitude = 0.1 + self.below(1_000_000) as f32 * 1.9e-6;
        if self.below(2) == 0 {
            magnitude
        } else {
            -magnitude
        }
    }

    pub(crate) fn shape(&mut self) -> Vec<usize> {
        let rank = self.below(4);
        (0..rank).map(|_| self.pick(self.sizes)).collect()
    }

    pub(crate) fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let mut bytes = Vec::new();
        for _ in 0..count {
            match dtype {
                DType::F32 => bytes.extend(self.number().to_le_bytes()),
                DType::F64 => bytes.extend(f64::from(self.number()).to_le_bytes()),
                DType::Bf16 => bytes.extend(half::bf16::from_f32(self.number()).to_le_bytes()),
                DType::F16 => bytes.extend(half::f16::from_f32(self.number()).to_le_bytes()),
                DType::I32 => bytes.extend((self.below(9) as i32 - 2).to_le_bytes()),
                DType::I64 => bytes.extend((self.below(9) as i64 - 2).to_le_bytes()),
                DType::U32 => bytes.extend((self.below(7) as u32).to_le_bytes()),
                DType::U8 | DType::Bool => bytes.push(self.below(7) as u8),
            }
        }
        let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        Tensor::from_bytes(dtype, &shape, &bytes, &budget()).unwrap()
    }
}

/// A program under construction; values with their types.
pub(crate) struct Growing {
    pub(crate) program: Program,
    pub(crate) random: Random,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) states: Vec<Tensor>,
    pub(crate) values: Vec<(Value, DType, Vec<usize>)>,
    /// Only operations that have a derivative, away from jumps.
    pub(crate) smooth: bool,
}

/// A random program of about `length` operations, without products: the bits of a product
/// depend on how its operands lie in memory.
pub(crate) fn program(seed: u64, length: usize) -> (Program, Vec<Tensor>) {
    program_of(Growing::new(seed, false), length)
}

/// As [`program`], with larger shapes.
pub(crate) fn large_program(seed: u64, length: usize) -> (Program, Vec<Tensor>) {
    let random = Random {
        sizes: &[1, 7, 30, 30, 64],
        ..Random::new(seed)
    };
    program_of(Growing::starting(random, false), length)
}

/// A random program of smooth operations, products among them.
pub(crate) fn smooth_program(seed: u64, length: usize) -> (Program, Vec<Tensor>) {
    program_of(Growing::new(seed, true), length)
}

fn program_of(mut growing: Growing, length: usize) -> (Program, Vec<Tensor>) {
    for _ in 0..length {
        growing.grow();
    }
    let Growing {
        mut program,
        mut random,
        inputs,
        values,
        ..
    } = growing;
    for (value, _, _) in &values {
        if random.below(4) == 0 {
            program.output(*value);
        }
    }
    program.output(values[values.len() - 1].0);
    (program, inputs)
}

impl Growing {
    pub(crate) fn new(seed: u64, smooth: bool) -> Self {
        Self::starting(Random::new(seed), smooth)
    }

    fn starting(random: Random, smooth: bool) -> Self {
        let mut growing = Self {
            program: Program::default(),
            random,
            inputs: Vec::new(),
            states: Vec::new(),
            values: Vec::new(),
            smooth,
        };
        for _ in 0..3 {
            let shape = growing.random.shape();
            growing.input(DType::F32, &shape);
        }
        if !smooth {
            for dtype in DType::ALL {
                let shape = growing.random.shape();
                growing.input(dtype, &shape);
            }
        }
        growing
    }

    pub(crate) fn input(&mut self, dtype: DType, shape: &[usize]) -> Value {
        let tensor = self.random.tensor(dtype, shape);
        let value = self.program.input_like(self.inputs.len(), &tensor);
        self.inputs.push(tensor);
        self.add(value, dtype, shape)
    }

    pub(crate) fn add(&mut self, value: Value, dtype: DType, shape: &[usize]) -> Value {
        self.values.push((value, dtype, shape.to_vec()));
        value
    }

    pub(crate) fn any(&mut self, fits: impl Fn(DType) -> bool) -> (Value, DType, Vec<usize>) {
        let fitting: Vec<usize> = (0..self.values.len())
            .filter(|&place| fits(self.values[place].1))
            .collect();
        // Newer values more often, so that chains become long.
        let place = fitting[self
            .random
            .below(fitting.len())
            .max(self.random.below(fitting.len()))];
        self.values[place].clone()
    }

    /// Another value of that type: one there is, or one made for it.
    fn same(&mut self, dtype: DType, shape: &[usize]) -> Value {
        let fitting: Vec<Value> = self
            .values
            .iter()
            .filter(|(_, other, size)| *other == dtype && size == shape)
            .map(|(value, _, _)| *value)
            .collect();
        match self.random.below(4) {
            0 => self.input(dtype, shape),
            1 if dtype == DType::F32 => {
                let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
                let number = f64::from(self.random.number());
                let value = self.program.number(number, &sizes);
                self.add(value, dtype, shape)
            }
            _ => self.random.pick(&fitting),
        }
    }

    fn op(
        &mut self,
        name: &str,
        operands: &[Value],
        attributes: &[(&str, Attribute)],
        dtype: DType,
        shape: &[usize],
    ) -> Value {
        let value = self.program.push(name, operands, attributes);
        self.add(value, dtype, shape)
    }

    /// Appends one operation, chosen by chance.
    pub(crate) fn grow(&mut self) {
        match self.random.below(if self.smooth { 14 } else { 24 }) {
            0..=2 => self.unary(),
            3..=6 => self.binary(),
            7 => self.transpose(),
            8 => self.broadcast(),
            9 => self.reshape(),
            10 => self.reduce(),
            11 if self.smooth => self.dot(),
            11 => self.binary(),
            12 => self.softmax(),
            13 => self.take(),
            14 => self.scatter(),
            15 => self.compare(),
            16 => self.logic(),
            17 => self.select(),
            18 => self.convert(),
            19 => self.one_hot(),
            20 => self.iota(),
            21 => self.arg_max(),
            22 => self.clamp(),
            _ => self.is_finite(),
        }
    }

    fn unary(&mut self) {
        let names: &[&str] = if self.smooth {
            &[
                "negate", "square", "tanh", "sigmoid", "exp", "expm1", "sin", "cos", "erf",
            ]
        } else {
            &[
                "negate", "abs", "sign", "square", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt",
                "sin", "cos", "tanh", "sigmoid", "erf", "floor", "ceil", "round",
            ]
        };
        let name = self.random.pick(names);
        let integers = !self.smooth && matches!(name, "negate" | "abs" | "sign" | "square");
        let (x, dtype, shape) =
            self.any(|dtype| dtype.is_float() || (integers && dtype != DType::Bool));
        // Keeps values in a range where differences are precise.
        let x = if self.smooth {
            self.op("tanh", &[x], &[], dtype, &shape)
        } else {
            x
        };
        self.op(name, &[x], &[], dtype, &shape);
    }

    fn binary(&mut self) {
        let names: &[&str] = if self.smooth {
            &["add", "subtract", "multiply"]
        } else {
            &[
                "add",
                "subtract",
                "multiply",
                "divide",
                "maximum",
                "minimum",
                "remainder",
                "multiply",
                "add",
                "power",
                "atan2",
            ]
        };
        let name = self.random.pick(names);
        let integers = !matches!(name, "power" | "atan2");
        let (a, dtype, shape) =
            self.any(|dtype| dtype.is_float() || (integers && dtype != DType::Bool));
        let b = self.same(dtype, &shape);
        self.op(name, &[a, b], &[], dtype, &shape);
    }

    fn transpose(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let mut order: Vec<usize> = (0..shape.len()).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, self.random.below(place + 1));
        }
        let permutation: Vec<i64> = order.iter().map(|&axis| axis as i64).collect();
        let result: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        self.op(
            "transpose",
            &[x],
            &[("permutation", list(&permutation))],
            dtype,
            &result,
        );
    }

    fn broadcast(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        if shape.len() >= 4 {
            return;
        }
        let mut axes = Vec::new();
        let mut result = Vec::new();
        for &size in &shape {
            if self.random.below(3) == 0 {
                result.push(self.random.pick(&[1, 2, 3]));
            }
            axes.push(result.len() as i64);
            let wide = size == 1 && self.random.below(2) == 0;
            result.push(if wide { 3 } else { size });
        }
        if shape.is_empty() || self.random.below(3) == 0 {
            result.push(self.random.pick(&[1, 2, 3]));
        }
        let sizes: Vec<i64> = result.iter().map(|&size| size as i64).collect();
        let attributes = [("shape", list(&sizes)), ("axes", list(&axes))];
        self.op("broadcast", &[x], &attributes, dtype, &result);
    }

    fn reshape(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let count: usize = shape.iter().product();
        let result = match self.random.below(3) {
            0 => vec![count],
            1 if count.is_multiple_of(2) && count > 0 => vec![2, count / 2],
            _ => shape.iter().rev().copied().collect(),
        };
        let sizes: Vec<i64> = result.iter().map(|&size| size as i64).collect();
        self.op("reshape", &[x], &[("shape", list(&sizes))], dtype, &result);
    }

    fn reduce(&mut self) {
        let names: &[&str] = if self.smooth {
            &["reduce-sum", "reduce-mean"]
        } else {
            &[
                "reduce-sum",
                "reduce-mean",
                "reduce-product",
                "reduce-max",
                "reduce-min",
                "reduce-any",
                "reduce-all",
            ]
        };
        let name = self.random.pick(names);
        let (x, dtype, shape) = self.any(|dtype| match name {
            "reduce-mean" => dtype.is_float(),
            "reduce-any" | "reduce-all" => dtype == DType::Bool,
            _ => dtype != DType::Bool,
        });
        let mut axes = Vec::new();
        let mut result = Vec::new();
        for (axis, &size) in shape.iter().enumerate() {
            if self.random.below(2) == 0 && size > 0 {
                axes.push(axis as i64);
            } else {
                result.push(size);
            }
        }
        self.op(name, &[x], &[("axes", list(&axes))], dtype, &result);
    }

    /// A product with axes in any order: each axis of the left operand is batch, free or
    /// contracted.
    fn dot(&mut self) {
        let (lhs, _, shape) = self.any(|dtype| dtype == DType::F32);
        let (mut batch, mut contract, mut free) = (vec![], vec![], vec![]);
        for axis in 0..shape.len() {
            let kind = self.random.below(3);
            [&mut batch, &mut contract, &mut free][kind].push(axis);
        }
        if self.random.below(2) == 0 {
            contract.reverse();
        }
        // The right operand has its axes in an order of its own.
        let mut order: Vec<Option<usize>> = batch
            .iter()
            .chain(&contract)
            .map(|&axis| Some(axis))
            .collect();
        order.push(None);
        for place in (1..order.len()).rev() {
            order.swap(place, self.random.below(place + 1));
        }
        let extra = self.random.pick(&[1, 2, 3]);
        let right: Vec<usize> = order
            .iter()
            .map(|axis| axis.map_or(extra, |axis| shape[axis]))
            .collect();
        if right.len() > 4 {
            return;
        }
        let rhs = self.same_or_input(&right);
        let place = |axis: &usize| {
            order
                .iter()
                .position(|other| *other == Some(*axis))
                .unwrap() as i64
        };
        let attributes = [
            (
                "lhs-batch",
                Attribute::Integers(batch.iter().map(|&axis| axis as i64).collect()),
            ),
            (
                "rhs-batch",
                Attribute::Integers(batch.iter().map(place).collect()),
            ),
            (
                "lhs-contract",
                Attribute::Integers(contract.iter().map(|&axis| axis as i64).collect()),
            ),
            (
                "rhs-contract",
                Attribute::Integers(contract.iter().map(place).collect()),
            ),
        ];
        let sizes = batch.iter().chain(&free).map(|&axis| shape[axis]);
        let result: Vec<usize> = sizes.chain([extra]).collect();
        self.op("dot-general", &[lhs, rhs], &attributes, DType::F32, &result);
    }

    pub(crate) fn same_or_input(&mut self, shape: &[usize]) -> Value {
        let known = self
            .values
            .iter()
            .any(|(_, dtype, size)| *dtype == DType::F32 && size == shape);
        if known {
            self.same(DType::F32, shape)
        } else {
            self.input(DType::F32, shape)
        }
    }

    fn softmax(&mut self) {
        let (x, dtype, shape) = self.any(DType::is_float);
        if shape.is_empty() {
            return;
        }
        let axis = self.random.below(shape.len()) as i64;
        let name = self.random.pick(&["softmax", "log-softmax"]);
        self.op(name, &[x], &[("axis", axis.into())], dtype, &shape);
    }

    fn take(&mut self) {
        let smooth = self.smooth;
        let (x, dtype, shape) = self.any(|dtype| dtype == DType::F32 || !smooth);
        let Some(axis) = self.full_axis(&shape) else {
            return;
        };
        let index_dtype = self.random.pick(&[DType::I32, DType::U32, DType::I64]);
        let index_shape = self.random.pick(&[&[][..], &[3], &[2, 2], &[0]]);
        if shape.len() + index_shape.len() > 5 {
            return;
        }
        let indices = self.input(index_dtype, index_shape);
        let result = [&shape[..axis], index_shape, &shape[axis + 1..]].concat();
        let axis = (axis as i64).into();
        self.op("take", &[x, indices], &[("axis", axis)], dtype, &result);
    }

    fn full_axis(&mut self, shape: &[usize]) -> Option<usize> {
        if shape.is_empty() {
            return None;
        }
        let axis = self.random.below(shape.len());
        (shape[axis] > 0).then_some(axis)
    }

    fn scatter(&mut self) {
        let (x, dtype, shape) = self.any(|dtype| dtype != DType::Bool);
        let Some(axis) = self.full_axis(&shape) else {
            return;
        };
        let indices = self.input(DType::I64, &[3]);
        let mut updates = shape.clone();
        updates[axis] = 3;
        let updates = self.input(dtype, &updates);
        let axis = (axis as i64).into();
        self.op(
            "scatter-add",
            &[x, indices, updates],
            &[("axis", axis)],
            dtype,
            &shape,
        );
    }

    fn compare(&mut self) {
        let names = [
            "equal",
            "not-equal",
            "less",
            "less-equal",
            "greater",
            "greater-equal",
        ];
        let name = self.random.pick(&names);
        let (a, dtype, shape) = self.any(|_| true);
        let b = self.same(dtype, &shape);
        self.op(name, &[a, b], &[], DType::Bool, &shape);
    }

    fn logic(&mut self) {
        let (a, dtype, shape) = self.any(|dtype| !dtype.is_float());
        if self.random.below(3) == 0 {
            self.op("not", &[a], &[], dtype, &shape);
            return;
        }
        let name = self.random.pick(&["and", "or", "xor"]);
        let b = self.same(dtype, &shape);
        self.op(name, &[a, b], &[], dtype, &shape);
    }

    fn select(&mut self) {
        let (a, dtype, shape) = self.any(|_| true);
        let b = self.same(dtype, &shape);
        let known = self
            .values
            .iter()
            .any(|(_, d, s)| *d == DType::Bool && *s == shape);
        let condition = if known {
            self.same(DType::Bool, &shape)
        } else {
            self.input(DType::Bool, &shape)
        };
        self.op("select", &[condition, a, b], &[], dtype, &shape);
    }

    fn clamp(&mut self) {
        let (x, dtype, shape) = self.any(|dtype| dtype != DType::Bool);
        let low = self.same(dtype, &shape);
        let high = self.same(dtype, &shape);
        self.op("clamp", &[x, low, high], &[], dtype, &shape);
    }

    fn is_finite(&mut self) {
        let (x, _, shape) = self.any(DType::is_float);
        self.op("is-finite", &[x], &[], DType::Bool, &shape);
    }

    fn convert(&mut self) {
        let (x, _, shape) = self.any(|_| true);
        let dtype = self.random.pick(&DType::ALL);
        self.op(
            "convert",
            &[x],
            &[("dtype", dtype.name().into())],
            dtype,
            &shape,
        );
    }

    fn one_hot(&mut self) {
        let (x, _, shape) = self.any(|dtype| !dtype.is_float() && dtype != DType::Bool);
        if shape.len() >= 4 {
            return;
        }
        let dtype = self.random.pick(&DType::ALL);
        let attributes = [("classes", 3.into()), ("dtype", dtype.name().into())];
        let result = [&shape[..], &[3]].concat();
        self.op("one-hot", &[x], &attributes, dtype, &result);
    }

    fn iota(&mut self) {
        let shape = self.random.shape();
        if shape.is_empty() {
            return;
        }
        let axis = self.random.below(shape.len()) as i64;
        let dtype = self.random.pick(&DType::ALL[..8]);
        let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let attributes = [
            ("dtype", dtype.name().into()),
            ("shape", list(&sizes)),
            ("axis", axis.into()),
        ];
        self.op("iota", &[], &attributes, dtype, &shape);
    }

    fn arg_max(&mut self) {
        let (x, _, shape) = self.any(|dtype| dtype != DType::Bool);
        let Some(axis) = self.full_axis(&shape) else {
            return;
        };
        let result = [&shape[..axis], &shape[axis + 1..]].concat();
        let axis = (axis as i64).into();
        let name = self.random.pick(&["arg-max", "arg-min"]);
        self.op(name, &[x], &[("axis", axis)], DType::I32, &result);
    }
}
