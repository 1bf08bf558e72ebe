//! Random instructions of every operation, and programs that are spoilt by chance.

use trainshed_tensor::{Attribute, Body, DType, Instruction, Program, Update, Value};

use super::list;
use super::random::{Growing, Random};

/// The bodies that the loops of a program run have inputs of this shape.
const WIDTH: usize = 3;

/// Elements of one result at most.
const MOST_ELEMENTS: usize = 2000;

type Attributes = Vec<(&'static str, Attribute)>;

fn sizes(shape: &[usize]) -> Attribute {
    let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Attribute::Integers(sizes)
}

fn without(shape: &[usize], axis: usize) -> Vec<usize> {
    [&shape[..axis], &shape[axis + 1..]].concat()
}

fn replaced(shape: &[usize], axis: usize, size: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    shape[axis] = size;
    shape
}

/// How many kinds of instructions [`Growing::grow_anything`] appends.
pub(crate) const KINDS: usize = 34;

impl Growing {
    /// Appends an operation that the other methods do not know, or several. Does nothing
    /// when no value there is fits it.
    pub(crate) fn grow_anything(&mut self, kind: usize) {
        match kind {
            0 => self.squeeze(),
            1 => self.concatenate(),
            2 => self.split(),
            3 => self.slice(),
            4 => self.pad(),
            5 => self.pad_edge(),
            6 => self.reverse(),
            7 => self.dynamic_slice(),
            8 => self.dynamic_update(),
            9 => self.statistics(),
            10 => self.cumulative(),
            11 => self.order(),
            12 => self.take_along(),
            13 => self.scatter_set(),
            14 => self.scatter_along(),
            15 | 16 => self.convolution(),
            17 => self.max_pool(),
            18 => self.average_pool(),
            19 => self.layer_norm(),
            20 => self.rms_norm(),
            21 => self.batch_norm(),
            22 | 23 => self.attention(),
            24 | 25 => self.random_numbers(),
            26 => self.random_order(),
            27 => self.dropout(),
            28 | 29 => self.scan(),
            30 => self.while_loop(),
            31 => self.stop_gradient(),
            32 => self.constant(),
            _ => self.literal(),
        }
    }

    /// Appends an instruction with these results.
    fn many(
        &mut self,
        name: &str,
        operands: &[Value],
        attributes: &[(&str, Attribute)],
        results: &[(DType, Vec<usize>)],
    ) -> Vec<Value> {
        let first = self.program.push(name, operands, attributes);
        let results = (0..).zip(results);
        let results = results.map(|(output, (dtype, shape))| {
            let value = first.result(output);
            self.values.push((value, *dtype, shape.clone()));
            value
        });
        results.collect()
    }

    fn one(
        &mut self,
        name: &str,
        operands: &[Value],
        attributes: &[(&str, Attribute)],
        dtype: DType,
        shape: Vec<usize>,
    ) -> Value {
        self.many(name, operands, attributes, &[(dtype, shape)])[0]
    }

    /// A value with axes, and one of them.
    fn along(&mut self, fits: impl Fn(DType) -> bool) -> Option<(Value, DType, Vec<usize>, usize)> {
        let (x, dtype, shape) = self.any(fits);
        if shape.is_empty() {
            return None;
        }
        let axis = self.random.below(shape.len());
        Some((x, dtype, shape, axis))
    }

    fn float(&mut self) -> DType {
        let floats = [DType::F32, DType::F32, DType::F64, DType::Bf16, DType::F16];
        self.random.pick(&floats)
    }

    fn index(&mut self) -> DType {
        self.random.pick(&[DType::I32, DType::I64, DType::U32])
    }

    fn key(&mut self) -> Value {
        self.input(DType::U32, &[2])
    }

    fn squeeze(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let mut axes = Vec::new();
        let mut result = Vec::new();
        for (axis, &size) in shape.iter().enumerate() {
            if size == 1 && self.random.below(2) == 0 {
                axes.push(axis);
            } else {
                result.push(size);
            }
        }
        self.one("squeeze", &[x], &[("axes", sizes(&axes))], dtype, result);
    }

    fn concatenate(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(|_| true) else {
            return;
        };
        let mut operands = vec![x];
        let mut size = shape[axis];
        for _ in 0..self.random.below(3) {
            let more = self.random.below(3);
            operands.push(if self.random.below(2) == 0 {
                size += shape[axis];
                x
            } else {
                size += more;
                self.input(dtype, &replaced(&shape, axis, more))
            });
        }
        let attributes = [("axis", (axis as i64).into())];
        let shape = replaced(&shape, axis, size);
        self.one("concatenate", &operands, &attributes, dtype, shape);
    }

    fn split(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(|_| true) else {
            return;
        };
        let first = self.random.below(shape[axis] + 1);
        let parts = [first, shape[axis] - first];
        let attributes = [("axis", (axis as i64).into()), ("sizes", sizes(&parts))];
        let results = parts.map(|size| (dtype, replaced(&shape, axis, size)));
        self.many("split", &[x], &attributes, &results);
    }

    fn slice(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let (mut starts, mut limits, mut strides, mut result) = (vec![], vec![], vec![], vec![]);
        for &size in &shape {
            let start = self.random.below(size + 1);
            let limit = start + self.random.below(size - start + 1);
            let stride = self.random.pick(&[1, 1, 2, 5]);
            starts.push(start);
            limits.push(limit);
            strides.push(stride);
            result.push((limit - start).div_ceil(stride));
        }
        let attributes = [
            ("starts", sizes(&starts)),
            ("limits", sizes(&limits)),
            ("strides", sizes(&strides)),
        ];
        self.one("slice", &[x], &attributes, dtype, result);
    }

    fn pad(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let scalar = self.input(dtype, &[]);
        let (mut low, mut high, mut interior, mut result) = (vec![], vec![], vec![], vec![]);
        for &size in &shape {
            let between = self.random.pick(&[0, 0, 1, 2]);
            let inner = (size + between * size.saturating_sub(1)) as i64;
            let before = self.random.below(5) as i64 - 2;
            let behind = self.random.below(5) as i64 - 2;
            let Ok(padded) = usize::try_from(inner + before + behind) else {
                return;
            };
            low.push(before);
            high.push(behind);
            interior.push(between);
            result.push(padded);
        }
        let attributes = [
            ("low", list(&low)),
            ("high", list(&high)),
            ("interior", sizes(&interior)),
        ];
        self.one("pad", &[x, scalar], &attributes, dtype, result);
    }

    fn pad_edge(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        if shape.contains(&0) {
            return;
        }
        let [low, high] = [(); 2].map(|()| {
            let padding = shape.iter().map(|_| self.random.below(3));
            padding.collect::<Vec<usize>>()
        });
        let result = shape.iter().zip(&low).zip(&high);
        let result = result
            .map(|((size, low), high)| size + low + high)
            .collect();
        let attributes = [("low", sizes(&low)), ("high", sizes(&high))];
        self.one("pad-edge", &[x], &attributes, dtype, result);
    }

    fn reverse(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let axes: Vec<usize> = (0..shape.len())
            .filter(|_| self.random.below(2) == 0)
            .collect();
        self.one("reverse", &[x], &[("axes", sizes(&axes))], dtype, shape);
    }

    fn dynamic_slice(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let index = self.index();
        let starts = self.input(index, &[shape.len()]);
        let result: Vec<usize> = shape
            .iter()
            .map(|&size| self.random.below(size + 1))
            .collect();
        let attributes = [("sizes", sizes(&result))];
        self.one("dynamic-slice", &[x, starts], &attributes, dtype, result);
    }

    fn dynamic_update(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        let index = self.index();
        let starts = self.input(index, &[shape.len()]);
        let update: Vec<usize> = shape
            .iter()
            .map(|&size| self.random.below(size + 1))
            .collect();
        let update = self.input(dtype, &update);
        let operands = [x, update, starts];
        self.one("dynamic-update-slice", &operands, &[], dtype, shape);
    }

    fn statistics(&mut self) {
        let (x, dtype, shape) = self.any(DType::is_float);
        let mut axes = Vec::new();
        let mut result = Vec::new();
        for (axis, &size) in shape.iter().enumerate() {
            if self.random.below(2) == 0 {
                axes.push(axis);
            } else {
                result.push(size);
            }
        }
        let mut attributes: Attributes = vec![("axes", sizes(&axes))];
        let name = self.random.pick(&["reduce-variance", "reduce-logsumexp"]);
        if name == "reduce-variance" {
            attributes.push(("correction", (self.random.below(2) as i64).into()));
        }
        self.one(name, &[x], &attributes, dtype, result);
    }

    fn cumulative(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(|dtype| dtype != DType::Bool) else {
            return;
        };
        let name = self.random.pick(&["cumulative-sum", "cumulative-product"]);
        let reverse = self.random.below(2) == 0;
        let attributes = [("axis", (axis as i64).into()), ("reverse", reverse.into())];
        self.one(name, &[x], &attributes, dtype, shape);
    }

    fn order(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(|dtype| dtype != DType::Bool) else {
            return;
        };
        let mut attributes: Attributes = vec![("axis", (axis as i64).into())];
        let (name, shape) = if self.random.below(2) == 0 {
            attributes.push(("descending", (self.random.below(2) == 0).into()));
            ("sort", shape)
        } else {
            let k = self.random.below(shape[axis] + 1);
            attributes.push(("k", (k as i64).into()));
            ("top-k", replaced(&shape, axis, k))
        };
        let results = [(dtype, shape.clone()), (DType::I32, shape)];
        self.many(name, &[x], &attributes, &results);
    }

    fn take_along(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(|_| true) else {
            return;
        };
        let taken = self.random.below(4) * usize::from(shape[axis] > 0);
        let shape = replaced(&shape, axis, taken);
        let index = self.index();
        let indices = self.input(index, &shape);
        let attributes = [("axis", (axis as i64).into())];
        self.one("take-along-axis", &[x, indices], &attributes, dtype, shape);
    }

    fn scatter_set(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(|_| true) else {
            return;
        };
        let count = self.random.below(4) * usize::from(shape[axis] > 0);
        let index = self.index();
        let indices = self.input(index, &[count]);
        let updates = self.input(dtype, &replaced(&shape, axis, count));
        let attributes = [("axis", (axis as i64).into())];
        let operands = [x, indices, updates];
        self.one("scatter-set", &operands, &attributes, dtype, shape);
    }

    fn scatter_along(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(|dtype| dtype != DType::Bool) else {
            return;
        };
        let count = self.random.below(4) * usize::from(shape[axis] > 0);
        let index = self.index();
        let updated = replaced(&shape, axis, count);
        let indices = self.input(index, &updated);
        let updates = self.input(dtype, &updated);
        let attributes = [("axis", (axis as i64).into())];
        let operands = [x, indices, updates];
        self.one(
            "scatter-add-along-axis",
            &operands,
            &attributes,
            dtype,
            shape,
        );
    }

    /// Sizes of one or two spatial axes, a window over them with its attributes, and the
    /// places that it has; the padding is less than the window. None when it does not fit.
    #[expect(clippy::type_complexity, reason = "five lists of one length")]
    fn window(
        &mut self,
        dilated: bool,
    ) -> Option<(Vec<usize>, Vec<usize>, Vec<usize>, Attributes)> {
        let rank = 1 + self.random.below(2);
        let (mut spatial, mut window, mut places) = (vec![], vec![], vec![]);
        let (mut strides, mut padding, mut dilation) = (vec![], vec![], vec![]);
        for _ in 0..rank {
            let size = 1 + self.random.below(7);
            let taps = 1 + self.random.below(3);
            let step = 1 + self.random.below(3);
            let spread = if dilated { 1 + self.random.below(2) } else { 1 };
            let [low, high] = [(); 2].map(|()| self.random.below(taps));
            if spread > size && low + high > 0 {
                return None;
            }
            let reach = spread * (taps - 1) + 1;
            places.push((size + low + high).checked_sub(reach)? / step + 1);
            spatial.push(size);
            window.push(taps);
            strides.push(step);
            padding.extend([low, high]);
            dilation.push(spread);
        }
        let mut attributes: Attributes =
            vec![("strides", sizes(&strides)), ("padding", sizes(&padding))];
        if dilated {
            attributes.push(("dilation", sizes(&dilation)));
        }
        Some((spatial, window, places, attributes))
    }

    fn convolution(&mut self) {
        let Some((spatial, window, places, attributes)) = self.window(true) else {
            return;
        };
        let dtype = self.float();
        let groups = 1 + self.random.below(2);
        let (images, channels, outputs) = (
            self.random.below(3),
            groups * (1 + self.random.below(3)),
            groups * (1 + self.random.below(3)),
        );
        let x = [&[images, channels], &spatial[..]].concat();
        let kernel = [&[outputs, channels / groups], &window[..]].concat();
        let y = [&[images, outputs], &places[..]].concat();
        let mut attributes = attributes;
        attributes.push(("groups", (groups as i64).into()));
        let (name, operands, result) = match self.random.below(3) {
            0 => ("convolution", [x, kernel], y),
            1 => {
                attributes.push(("spatial", sizes(&spatial)));
                ("convolution-transpose", [y, kernel], x)
            }
            _ => {
                attributes.push(("window", sizes(&window)));
                ("convolution-kernel", [x, y], kernel)
            }
        };
        let operands = operands.map(|shape| self.input(dtype, &shape));
        self.one(name, &operands, &attributes, dtype, result);
    }

    fn max_pool(&mut self) {
        let Some((spatial, window, places, mut attributes)) = self.window(true) else {
            return;
        };
        let dtype = self.float();
        let outer = [self.random.below(3), self.random.below(3)];
        let x = self.input(dtype, &[&outer, &spatial[..]].concat());
        attributes.push(("window", sizes(&window)));
        let shape = [&outer, &places[..]].concat();
        let results = [(dtype, shape.clone()), (DType::I32, shape)];
        self.many("max-pool", &[x], &attributes, &results);
    }

    fn average_pool(&mut self) {
        let Some((spatial, window, places, mut attributes)) = self.window(false) else {
            return;
        };
        let dtype = self.float();
        let outer = [self.random.below(3), self.random.below(3)];
        attributes.push(("window", sizes(&window)));
        attributes.push(("count-padding", (self.random.below(2) == 0).into()));
        let x = [&outer, &spatial[..]].concat();
        let y = [&outer, &places[..]].concat();
        if self.random.below(2) == 0 {
            let x = self.input(dtype, &x);
            self.one("average-pool", &[x], &attributes, dtype, y);
        } else {
            attributes.push(("spatial", sizes(&spatial)));
            let y = self.input(dtype, &y);
            self.one("average-pool-transpose", &[y], &attributes, dtype, x);
        }
    }

    fn layer_norm(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(DType::is_float) else {
            return;
        };
        let [scale, shift] = [(); 2].map(|()| self.input(dtype, &shape[axis..]));
        let attributes = [("axis", (axis as i64).into()), ("epsilon", 1e-5.into())];
        let operands = [x, scale, shift];
        let y = self.one("layer-norm", &operands, &attributes, dtype, shape.clone());
        if self.random.below(2) == 0 {
            let parameter = shape[axis..].to_vec();
            let results = [
                (dtype, shape),
                (dtype, parameter.clone()),
                (dtype, parameter),
            ];
            let operands = [x, scale, y];
            self.many("layer-norm-gradient", &operands, &attributes, &results);
        }
    }

    fn rms_norm(&mut self) {
        let Some((x, dtype, shape, axis)) = self.along(DType::is_float) else {
            return;
        };
        let scale = self.input(dtype, &shape[axis..]);
        let attributes = [("axis", (axis as i64).into()), ("epsilon", 1e-5.into())];
        let y = self.one("rms-norm", &[x, scale], &attributes, dtype, shape.clone());
        if self.random.below(2) == 0 {
            let results = [(dtype, shape.clone()), (dtype, shape[axis..].to_vec())];
            self.many("rms-norm-gradient", &[x, scale, y], &attributes, &results);
        }
    }

    fn batch_norm(&mut self) {
        let (x, dtype, shape) = self.any(DType::is_float);
        let Some(&channels) = shape.get(1) else {
            return;
        };
        let parameter = (dtype, vec![channels]);
        let [scale, shift, other] = [(); 3].map(|()| self.input(dtype, &[channels]));
        let attributes = [("epsilon", 1e-3.into())];
        if self.random.below(3) == 0 {
            let operands = [x, scale, shift, other, scale];
            self.one("batch-norm-inference", &operands, &attributes, dtype, shape);
            return;
        }
        let results = [(dtype, shape), parameter.clone(), parameter];
        let y = self.many("batch-norm", &[x, scale, shift], &attributes, &results)[0];
        if self.random.below(2) == 0 {
            self.many("batch-norm-gradient", &[x, scale, y], &attributes, &results);
        }
    }

    fn attention(&mut self) {
        let dtype = self.float();
        let [queries, keys, depth, deep] = [(); 4].map(|()| self.random.below(5));
        let batch: Vec<usize> = (0..self.random.below(3))
            .map(|_| self.random.below(3))
            .collect();
        let shaped = |rows: usize, columns: usize| [&batch[..], &[rows, columns]].concat();
        let shapes = [
            shaped(queries, depth),
            shaped(keys, depth),
            shaped(keys, deep),
        ];
        let mut operands: Vec<Value> = shapes
            .iter()
            .map(|shape| self.input(dtype, shape))
            .collect();
        if self.random.below(2) == 0 {
            let mut mask: Vec<usize> = batch
                .iter()
                .map(|&size| if self.random.below(2) == 0 { 1 } else { size })
                .collect();
            mask.extend([queries, keys]);
            operands.push(self.input(DType::Bool, &mask));
        }
        let causal = self.random.below(2) == 0;
        let attributes = [("scale", 0.5.into()), ("causal", causal.into())];
        let logs = [&batch[..], &[queries]].concat();
        let results = [(dtype, shaped(queries, deep)), (dtype, logs)];
        let made = self.many("attention", &operands, &attributes, &results);
        if self.random.below(2) == 0 {
            operands.extend([made[0], made[1], made[0]]);
            let results = shapes.map(|shape| (dtype, shape));
            self.many("attention-gradient", &operands, &attributes, &results);
        }
    }

    fn random_numbers(&mut self) {
        let key = self.key();
        let shape = self.random.shape();
        let dtype = self.float();
        let mut attributes: Attributes = vec![
            ("shape", sizes(&shape)),
            ("stream", (self.random.below(100) as i64).into()),
        ];
        match self.random.below(4) {
            0 => self.one("random-bits", &[key], &attributes, DType::U32, shape),
            1 => {
                attributes.push(("probability", 0.3.into()));
                self.one("random-bernoulli", &[key], &attributes, DType::Bool, shape)
            }
            kind => {
                attributes.push(("dtype", dtype.name().into()));
                let name = ["random-uniform", "random-normal"][kind - 2];
                self.one(name, &[key], &attributes, dtype, shape)
            }
        };
    }

    fn random_order(&mut self) {
        let key = self.key();
        let number = self.input(DType::U32, &[]);
        let key = self.one("random-fold", &[key, number], &[], DType::U32, vec![2]);
        let size = self.random.below(40);
        let attributes = [("size", (size as i64).into()), ("stream", 3.into())];
        self.one(
            "random-permutation",
            &[key],
            &attributes,
            DType::I32,
            vec![size],
        );
    }

    fn dropout(&mut self) {
        let (x, dtype, shape) = self.any(DType::is_float);
        let key = self.key();
        let attributes = [("rate", 0.4.into()), ("stream", 5.into())];
        self.one("dropout", &[x, key], &attributes, dtype, shape);
    }

    fn stop_gradient(&mut self) {
        let (x, dtype, shape) = self.any(|_| true);
        self.one("stop-gradient", &[x], &[], dtype, shape);
    }

    fn constant(&mut self) {
        let dtype = self.random.pick(&DType::ALL);
        let shape = self.random.shape();
        let tensor = self.random.tensor(dtype, &shape);
        let attributes = [
            ("dtype", dtype.name().into()),
            ("shape", sizes(&shape)),
            ("data", Attribute::Bytes(tensor.bytes().into())),
        ];
        self.one("constant", &[], &attributes, dtype, shape);
    }

    fn literal(&mut self) {
        let dtype = self.random.pick(&DType::ALL);
        let shape = self.random.shape();
        let value = match dtype {
            DType::Bool => true.into(),
            dtype if dtype.is_float() => (f64::from(self.random.number())).into(),
            _ => (self.random.below(5) as i64).into(),
        };
        let attributes = [
            ("dtype", dtype.name().into()),
            ("shape", sizes(&shape)),
            ("value", value),
        ];
        self.one("constant", &[], &attributes, dtype, shape);
    }

    /// A body of a scan: a carry, a slice and an invariant to a carry and a stacked value,
    /// all alike. It may run bodies that are there.
    fn step(&mut self) -> usize {
        let mut body = Body::default();
        let mut values: Vec<Value> = (0..3).map(|index| input(&mut body, index)).collect();
        let inner: Vec<usize> = (0..self.program.bodies.len())
            .filter(|&body| self.program.bodies[body].outputs.len() == 2)
            .collect();
        for _ in 0..self.random.below(6) {
            let [a, b] = [(); 2].map(|()| self.random.pick(&values));
            match self.random.below(8) {
                0 if !inner.is_empty() && self.program.bodies.len() < 4 => {
                    let length = self.random.below(3);
                    let shape = [("shape", sizes(&[length, WIDTH])), ("axes", list(&[1]))];
                    let sequence = body.push("broadcast", &[a], &shape);
                    let inner = self.random.pick(&inner);
                    let attributes = loop_attributes(inner, length, self.random.below(2) == 0);
                    let made = body.push("scan", &[b, sequence, values[2]], &attributes);
                    values.push(made);
                }
                1 => values.push(body.push("tanh", &[a], &[])),
                2 => values.push(body.push("sigmoid", &[a], &[])),
                3 => values.push(body.push("softmax", &[a], &[("axis", 0.into())])),
                4 => {
                    let none: [(&str, Attribute); 4] = [
                        ("lhs-batch", list(&[])),
                        ("rhs-batch", list(&[])),
                        ("lhs-contract", list(&[])),
                        ("rhs-contract", list(&[])),
                    ];
                    let outer = body.push("dot-general", &[a, b], &none);
                    let sum = body.push("reduce-sum", &[outer], &[("axes", list(&[1]))]);
                    values.push(sum);
                }
                5 => values.push(body.push("multiply", &[a, b], &[])),
                _ => values.push(body.push("add", &[a, b], &[])),
            }
        }
        body.outputs = [(); 2].map(|()| self.random.pick(&values)).to_vec();
        self.program.bodies.push(body);
        self.program.bodies.len() - 1
    }

    fn scan(&mut self) {
        let known: Vec<usize> = (0..self.program.bodies.len())
            .filter(|&body| self.program.bodies[body].outputs.len() == 2)
            .collect();
        let body = if known.is_empty() || self.random.below(2) == 0 {
            self.step()
        } else {
            self.random.pick(&known)
        };
        let length = self.random.below(4);
        let carry = self.same_or_input(&[WIDTH]);
        let sequence = self.same_or_input(&[length, WIDTH]);
        let invariant = self.same_or_input(&[WIDTH]);
        let attributes = loop_attributes(body, length, self.random.below(2) == 0);
        let results = [(DType::F32, vec![WIDTH]), (DType::F32, vec![length, WIDTH])];
        self.many("scan", &[carry, sequence, invariant], &attributes, &results);
    }

    fn while_loop(&mut self) {
        let mut condition = Body::default();
        let [a, b] = [0, 1].map(|index| input(&mut condition, index));
        let less = condition.push("less", &[a, b], &[]);
        let any = condition.push("reduce-any", &[less], &[("axes", list(&[0]))]);
        condition.outputs.push(any);
        let mut body = Body::default();
        let [a, b] = [0, 1].map(|index| input(&mut body, index));
        let grown = body.push("subtract", &[a, b], &[]);
        body.outputs.push(grown);
        self.program.bodies.extend([condition, body]);
        let first = self.program.bodies.len() as i64 - 2;
        let [carry, invariant] = [(); 2].map(|()| self.same_or_input(&[WIDTH]));
        let attributes = [
            ("condition", first.into()),
            ("body", (first + 1).into()),
            ("carries", 1.into()),
            ("limit", (self.random.below(5) as i64).into()),
        ];
        let operands = [carry, invariant];
        self.one("while", &operands, &attributes, DType::F32, vec![WIDTH]);
    }

    /// A scalar that depends on most of the floats, to differentiate.
    pub(crate) fn loss(&mut self) -> Value {
        let mut loss = self.input(DType::F32, &[]);
        for (value, dtype, shape) in self.values.clone() {
            if !dtype.is_float() || self.random.below(2) == 0 {
                continue;
            }
            let single = [("dtype", "f32".into())];
            let value = self.program.push("convert", &[value], &single);
            let axes: Vec<usize> = (0..shape.len()).collect();
            let axes = [("axes", sizes(&axes))];
            let sum = self.program.push("reduce-sum", &[value], &axes);
            loss = self.program.push("add", &[loss, sum], &[]);
        }
        loss
    }
}

fn input(body: &mut Body, index: i64) -> Value {
    let attributes = [
        ("index", index.into()),
        ("dtype", "f32".into()),
        ("shape", sizes(&[WIDTH])),
    ];
    body.push("input", &[], &attributes)
}

fn loop_attributes(body: usize, length: usize, reverse: bool) -> [(&'static str, Attribute); 5] {
    [
        ("body", (body as i64).into()),
        ("carries", 1.into()),
        ("sequences", 1.into()),
        ("length", (length as i64).into()),
        ("reverse", reverse.into()),
    ]
}

/// A program of about `length` operations of every kind that obeys every rule, and states
/// that it updates.
pub(crate) fn anything(seed: u64, length: usize) -> Growing {
    let mut growing = Growing::new(seed, false);
    for _ in 0..length {
        if growing.random.below(3) == 0 {
            growing.grow();
        } else {
            let kind = growing.random.below(KINDS);
            growing.grow_anything(kind);
        }
        // A result that is too large is left alone.
        growing.values.retain(|(_, _, shape)| {
            shape.iter().product::<usize>() <= MOST_ELEMENTS && shape.len() < 6
        });
    }
    for (value, dtype, shape) in growing.values.clone() {
        match growing.random.below(8) {
            0 | 1 => growing.program.outputs.push(value),
            2 => {
                let index = growing.states.len();
                let tensor = growing.random.tensor(dtype, &shape);
                let attributes = [
                    ("index", (index as i64).into()),
                    ("dtype", dtype.name().into()),
                    ("shape", sizes(&shape)),
                ];
                growing.program.push("state", &[], &attributes);
                growing.states.push(tensor);
                let state = index as u32;
                growing.program.updates.push(Update { state, value });
            }
            _ => {}
        }
    }
    growing
}

/// Names of attributes and operations that exist, for use where they do not belong.
const WORDS: [&str; 24] = [
    "shape",
    "axis",
    "axes",
    "index",
    "dtype",
    "value",
    "data",
    "sizes",
    "body",
    "length",
    "scan",
    "while",
    "input",
    "state",
    "add",
    "convert",
    "take",
    "sort",
    "attention",
    "convolution",
    "f32",
    "bf16",
    "bool",
    "",
];

const INTEGERS: [i64; 18] = [
    -1,
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    9,
    255,
    65_536,
    i32::MAX as i64,
    1 << 31,
    1 << 32,
    1 << 40,
    i64::MAX,
    i64::MIN,
    -2,
];

/// Changes something of a program, most often to something wrong.
pub(crate) fn spoil(program: &mut Program, random: &mut Random) {
    let bodies = program.bodies.len();
    let count = program.instructions.len();
    let (instructions, outputs) = match random.below(4) {
        0 if bodies > 0 => {
            let body = &mut program.bodies[random.below(bodies)];
            (&mut body.instructions, &mut body.outputs)
        }
        _ => (&mut program.instructions, &mut program.outputs),
    };
    let any = |random: &mut Random| Value {
        instruction: random.below(count + 2) as u32,
        output: random.pick(&[0, 0, 0, 1, 2, 9]),
    };
    match random.below(12) {
        0 => outputs.push(any(random)),
        1 => {
            let state = random.below(4) as u32;
            let value = any(random);
            program.updates.push(Update { state, value });
        }
        _ if instructions.is_empty() => {}
        2 => {
            let place = random.below(instructions.len());
            instructions.remove(place);
        }
        3 => {
            let [from, to] = [(); 2].map(|()| random.below(instructions.len()));
            instructions.swap(from, to);
        }
        kind => {
            let place = random.below(instructions.len());
            spoil_instruction(&mut instructions[place], kind, random, any);
        }
    }
}

fn spoil_instruction(
    instruction: &mut Instruction,
    kind: usize,
    random: &mut Random,
    any: impl Fn(&mut Random) -> Value,
) {
    let attributes = &mut instruction.attributes;
    match kind {
        4 => instruction.op = random.pick(&WORDS).to_owned(),
        5 => instruction.operands.push(any(random)),
        6 => drop(instruction.operands.pop()),
        7 if !instruction.operands.is_empty() => {
            let place = random.below(instruction.operands.len());
            instruction.operands[place] = any(random);
        }
        _ if attributes.is_empty() => {
            let name = random.pick(&WORDS).to_owned();
            attributes.push((name, random.pick(&INTEGERS).into()));
        }
        8 => {
            let place = random.below(attributes.len());
            attributes.remove(place);
        }
        _ => {
            let place = random.below(attributes.len());
            let attribute = &mut attributes[place].1;
            let spoilt = match attribute {
                Attribute::Integer(_) => Attribute::Integer(random.pick(&INTEGERS)),
                Attribute::Integers(values) if !values.is_empty() && random.below(4) > 0 => {
                    let place = random.below(values.len());
                    values[place] = random.pick(&INTEGERS);
                    return;
                }
                Attribute::Integers(values) if random.below(2) == 0 => {
                    values.push(random.pick(&INTEGERS));
                    return;
                }
                Attribute::Text(_) => random.pick(&WORDS).into(),
                Attribute::Number(_) => {
                    let numbers = [0.0, -1.0, 1.0, 2.0, f64::NAN, f64::INFINITY, 1e300];
                    random.pick(&numbers).into()
                }
                Attribute::Flag(flag) => (!*flag).into(),
                Attribute::Bytes(bytes) => {
                    let length = random.below(bytes.len() + 1);
                    Attribute::Bytes(bytes[..length].into())
                }
                Attribute::Integers(_) => Attribute::Integers(Vec::new()),
            };
            *attribute = match random.below(8) {
                0 => random.pick(&WORDS).into(),
                1 => random.pick(&INTEGERS).into(),
                _ => spoilt,
            };
        }
    }
}
