//! A second executor for operations whose results are exact: slow, and as plain as the
//! sentences of `docs/programs.md`.

use std::cmp::Ordering;

use trainshed_tensor::{Attribute, DType, Tensor};

/// An element as the number that it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Float(f64),
    /// Integers, and flags as 0 and 1.
    Whole(i128),
}

use Number::{Float, Whole};

/// A tensor in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) numbers: Vec<Number>,
}

impl Number {
    fn read(dtype: DType, bytes: &[u8]) -> Self {
        macro_rules! read {
            ($type:ty) => {
                <$type>::from_le_bytes(bytes.try_into().unwrap())
            };
        }
        match dtype {
            DType::F32 => Float(f64::from(read!(f32))),
            DType::F64 => Float(read!(f64)),
            DType::Bf16 => Float(read!(half::bf16).to_f64()),
            DType::F16 => Float(read!(half::f16).to_f64()),
            DType::I32 => Whole(i128::from(read!(i32))),
            DType::I64 => Whole(i128::from(read!(i64))),
            DType::U32 => Whole(i128::from(read!(u32))),
            DType::U8 | DType::Bool => Whole(i128::from(bytes[0])),
        }
    }

    fn write(self, dtype: DType) -> Vec<u8> {
        match (self, dtype) {
            (Float(number), DType::F32) => (number as f32).to_le_bytes().to_vec(),
            (Float(number), DType::F64) => number.to_le_bytes().to_vec(),
            (Float(number), DType::Bf16) => half::bf16::from_f64(number).to_le_bytes().to_vec(),
            (Float(number), DType::F16) => half::f16::from_f64(number).to_le_bytes().to_vec(),
            (Whole(number), _) => number.to_le_bytes()[..dtype.size()].to_vec(),
            _ => unreachable!("a float in an integer type"),
        }
    }

    /// What a result becomes in its type: floats are rounded, half types by way of single
    /// precision, and integers wrap around.
    fn fit(self, dtype: DType) -> Self {
        let number = match (self, dtype) {
            (Float(number), DType::Bf16 | DType::F16) => Float(f64::from(number as f32)),
            (number, _) => number,
        };
        Self::read(dtype, &number.write(dtype))
    }

    fn is_nan(self) -> bool {
        matches!(self, Float(number) if number.is_nan())
    }

    fn float(self) -> f64 {
        match self {
            Float(number) => number,
            Whole(number) => number as f64,
        }
    }

    fn whole(self) -> i128 {
        match self {
            Whole(number) => number,
            Float(number) => unreachable!("{number} is no integer"),
        }
    }

    /// Nothing when one is NaN.
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Whole(a), Whole(b)) => Some(a.cmp(&b)),
            (a, b) => a.float().partial_cmp(&b.float()),
        }
    }

    /// With NaN as the greatest number.
    fn order(self, other: Self) -> Ordering {
        let nan = self.is_nan().cmp(&other.is_nan());
        nan.then_with(|| self.compare(other).unwrap_or(Ordering::Equal))
    }

    /// Whether it is the same element; zeros of either sign are.
    pub(crate) fn is(self, other: Self) -> bool {
        (self.is_nan() && other.is_nan()) || self.compare(other) == Some(Ordering::Equal)
    }
}

impl Array {
    pub(crate) fn of(tensor: &Tensor) -> Self {
        let dtype = tensor.dtype();
        let elements = tensor.bytes().chunks(dtype.size());
        Self {
            dtype,
            shape: tensor.shape().to_vec(),
            numbers: elements.map(|bytes| Number::read(dtype, bytes)).collect(),
        }
    }

    pub(crate) fn tensor(&self) -> Tensor {
        let shape: Vec<u64> = self.shape.iter().map(|&size| size as u64).collect();
        let numbers = self.numbers.iter();
        let bytes: Vec<u8> = numbers
            .flat_map(|number| number.write(self.dtype))
            .collect();
        Tensor::from_bytes(self.dtype, &shape, &bytes, &super::budget()).unwrap()
    }

    /// An array whose elements follow from their indexes.
    fn made(dtype: DType, shape: &[usize], mut number: impl FnMut(&[usize]) -> Number) -> Self {
        let indexes = indexes(shape);
        let numbers = indexes.iter().map(|index| number(index).fit(dtype));
        Self {
            dtype,
            shape: shape.to_vec(),
            numbers: numbers.collect(),
        }
    }

    fn at(&self, index: &[usize]) -> Number {
        self.numbers[self.place(index)]
    }

    fn place(&self, index: &[usize]) -> usize {
        let pairs = index.iter().zip(&self.shape);
        pairs.fold(0, |place, (&index, &size)| {
            assert!(index < size);
            place * size + index
        })
    }

    /// The elements along an axis through `index`, whose entry for the axis does not count.
    fn line(&self, index: &[usize], axis: usize) -> Vec<Number> {
        let mut index = index.to_vec();
        let steps = 0..self.shape[axis];
        steps
            .map(|step| {
                index[axis] = step;
                self.at(&index)
            })
            .collect()
    }
}

/// All indexes of a shape in row-major order.
fn indexes(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &size in shape {
        all = all
            .into_iter()
            .flat_map(|index| (0..size).map(move |step| [&index[..], &[step]].concat()))
            .collect();
    }
    all
}

/// The attributes of an operation.
pub(crate) struct Attributes<'a>(pub(crate) &'a [(&'a str, Attribute)]);

impl Attributes<'_> {
    fn get(&self, name: &str) -> &Attribute {
        let found = self.0.iter().find(|(known, _)| *known == name);
        &found.unwrap().1
    }

    fn integer(&self, name: &str) -> usize {
        match self.get(name) {
            Attribute::Integer(value) => *value as usize,
            other => unreachable!("{other:?}"),
        }
    }

    fn signed(&self, name: &str) -> Vec<i64> {
        match self.get(name) {
            Attribute::Integers(values) => values.clone(),
            other => unreachable!("{other:?}"),
        }
    }

    fn list(&self, name: &str) -> Vec<usize> {
        self.signed(name)
            .iter()
            .map(|&value| value as usize)
            .collect()
    }

    fn flag(&self, name: &str) -> bool {
        *self.get(name) == Attribute::Flag(true)
    }
}

/// The results of an operation; `None` when it is not one of those that are known here.
pub(crate) fn evaluate(
    op: &str,
    operands: &[Array],
    attributes: &Attributes<'_>,
    dtype: DType,
) -> Option<Vec<Array>> {
    elementwise(op, operands, dtype)
        .or_else(|| shapes(op, operands, attributes))
        .or_else(|| order(op, operands, attributes))
        .or_else(|| positions(op, operands, attributes, dtype))
}

fn flag(value: bool) -> Number {
    Whole(i128::from(value))
}

fn elementwise(op: &str, operands: &[Array], dtype: DType) -> Option<Vec<Array>> {
    let numbers: [fn(f64) -> f64; 3] = [f64::floor, f64::ceil, f64::round_ties_even];
    let compared =
        |wanted: fn(Option<Ordering>) -> bool| move |x: &[Number]| flag(wanted(x[0].compare(x[1])));
    let of = |result: DType, function: &dyn Fn(&[Number]) -> Number| {
        let shape = &operands[0].shape;
        let array = Array::made(result, shape, |index| {
            let given: Vec<Number> = operands.iter().map(|array| array.at(index)).collect();
            function(&given)
        });
        Some(vec![array])
    };
    let extreme = |x: &[Number], wanted: Ordering| match x[0].compare(x[1]) {
        None => Float(f64::NAN),
        Some(found) if found == wanted => x[0],
        Some(_) => x[1],
    };
    let arithmetic = |whole: fn(i128, i128) -> i128, float: fn(f64, f64) -> f64| {
        move |x: &[Number]| match (x[0], x[1]) {
            (Whole(a), Whole(b)) => Whole(whole(a, b)),
            (a, b) => Float(float(a.float(), b.float())),
        }
    };
    match op {
        "negate" => of(dtype, &|x| match x[0] {
            Whole(x) => Whole(-x),
            Float(x) => Float(-x),
        }),
        "abs" => of(dtype, &|x| match x[0] {
            Whole(x) => Whole(x.abs()),
            Float(x) => Float(x.abs()),
        }),
        "sign" => of(dtype, &|x| match x[0] {
            Whole(x) => Whole(x.signum()),
            Float(x) if x == 0.0 || x.is_nan() => Float(x),
            Float(x) => Float(x.signum()),
        }),
        "square" => of(dtype, &|x| match x[0] {
            Whole(x) => Whole(x.wrapping_mul(x)),
            Float(x) => Float(x * x),
        }),
        "sqrt" => of(dtype, &|x| Float(x[0].float().sqrt())),
        "floor" => of(dtype, &|x| Float(numbers[0](x[0].float()))),
        "ceil" => of(dtype, &|x| Float(numbers[1](x[0].float()))),
        "round" => of(dtype, &|x| Float(numbers[2](x[0].float()))),
        "is-finite" => of(DType::Bool, &|x| flag(x[0].float().is_finite())),
        "stop-gradient" => of(dtype, &|x| x[0]),
        "add" => of(dtype, &arithmetic(|a, b| a + b, |a, b| a + b)),
        "subtract" => of(dtype, &arithmetic(|a, b| a - b, |a, b| a - b)),
        "multiply" => of(dtype, &arithmetic(i128::wrapping_mul, |a, b| a * b)),
        "divide" => of(
            dtype,
            &arithmetic(|a, b| if b == 0 { 0 } else { a / b }, |a, b| a / b),
        ),
        "remainder" => of(
            dtype,
            &arithmetic(|a, b| if b == 0 { 0 } else { a % b }, |a, b| a % b),
        ),
        "maximum" => of(dtype, &|x| extreme(x, Ordering::Greater)),
        "minimum" => of(dtype, &|x| extreme(x, Ordering::Less)),
        "clamp" => of(dtype, &|x| {
            let raised = extreme(&x[..2], Ordering::Greater);
            extreme(&[raised, x[2]], Ordering::Less)
        }),
        "equal" => of(
            DType::Bool,
            &compared(|found| found == Some(Ordering::Equal)),
        ),
        "not-equal" => of(
            DType::Bool,
            &compared(|found| found != Some(Ordering::Equal)),
        ),
        "less" => of(
            DType::Bool,
            &compared(|found| found == Some(Ordering::Less)),
        ),
        "less-equal" => of(
            DType::Bool,
            &compared(|found| found.is_some_and(Ordering::is_le)),
        ),
        "greater" => of(
            DType::Bool,
            &compared(|found| found == Some(Ordering::Greater)),
        ),
        "greater-equal" => of(
            DType::Bool,
            &compared(|found| found.is_some_and(Ordering::is_ge)),
        ),
        "and" => of(dtype, &|x| Whole(x[0].whole() & x[1].whole())),
        "or" => of(dtype, &|x| Whole(x[0].whole() | x[1].whole())),
        "xor" => of(dtype, &|x| Whole(x[0].whole() ^ x[1].whole())),
        "not" if dtype == DType::Bool => of(dtype, &|x| Whole(1 - x[0].whole())),
        "not" => of(dtype, &|x| Whole(!x[0].whole())),
        "select" => of(dtype, &|x| if x[0].whole() == 1 { x[1] } else { x[2] }),
        _ => None,
    }
}

/// An element in another type. Floats of 64 bits become half types in one rounding.
pub(crate) fn converted(number: Number, to: DType) -> Number {
    match (number, to) {
        (_, DType::Bool) => flag(!matches!(number.compare(Whole(0)), Some(Ordering::Equal))),
        (Float(number), _) if to.is_float() => Number::read(to, &Float(number).write(to)),
        (Float(number), _) => {
            let limits = match to {
                DType::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
                DType::I64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
                DType::U8 => (0, i128::from(u8::MAX)),
                _ => (0, i128::from(u32::MAX)),
            };
            // `as` saturates, and makes 0 of NaN.
            Whole((number as i128).clamp(limits.0, limits.1))
        }
        (Whole(number), DType::F32) => Float(f64::from(number as f32)),
        (Whole(number), DType::Bf16 | DType::F16) => Float(f64::from(number as f32)).fit(to),
        (Whole(number), DType::F64) => Float(number as f64),
        (Whole(_), _) => number.fit(to),
    }
}

fn shapes(op: &str, operands: &[Array], attributes: &Attributes<'_>) -> Option<Vec<Array>> {
    let x = operands.first()?;
    let made = |shape: &[usize], from: &dyn Fn(&[usize]) -> Number| {
        Some(vec![Array::made(x.dtype, shape, from)])
    };
    match op {
        "reshape" | "squeeze" => {
            let shape = match op {
                "reshape" => attributes.list("shape"),
                _ => without(&x.shape, &attributes.list("axes")),
            };
            let numbers = x.numbers.clone();
            let dtype = x.dtype;
            Some(vec![Array {
                dtype,
                shape,
                numbers,
            }])
        }
        "transpose" => {
            let order = attributes.list("permutation");
            let shape: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
            made(&shape, &|index| {
                let mut from = vec![0; index.len()];
                for (&axis, &step) in order.iter().zip(index) {
                    from[axis] = step;
                }
                x.at(&from)
            })
        }
        "broadcast" => {
            let axes = attributes.list("axes");
            made(&attributes.list("shape"), &|index| {
                let from = axes.iter().zip(&x.shape);
                let from: Vec<usize> = from
                    .map(|(&axis, &size)| if size == 1 { 0 } else { index[axis] })
                    .collect();
                x.at(&from)
            })
        }
        "concatenate" => {
            let axis = attributes.integer("axis");
            let mut shape = x.shape.clone();
            shape[axis] = operands.iter().map(|part| part.shape[axis]).sum();
            made(&shape, &|index| {
                let mut index = index.to_vec();
                for part in operands {
                    match index[axis].checked_sub(part.shape[axis]) {
                        Some(rest) => index[axis] = rest,
                        None => return part.at(&index),
                    }
                }
                unreachable!("the sizes sum up to the dimension")
            })
        }
        "split" => {
            let axis = attributes.integer("axis");
            let mut start = 0;
            let parts = attributes.list("sizes").into_iter().map(|size| {
                let mut shape = x.shape.clone();
                shape[axis] = size;
                let part = Array::made(x.dtype, &shape, |index| {
                    let mut index = index.to_vec();
                    index[axis] += start;
                    x.at(&index)
                });
                start += size;
                part
            });
            Some(parts.collect())
        }
        "slice" => {
            let (starts, strides) = (attributes.list("starts"), attributes.list("strides"));
            let sizes = attributes
                .list("limits")
                .into_iter()
                .zip(&starts)
                .zip(&strides);
            let shape: Vec<usize> = sizes
                .map(|((limit, &start), &stride)| (limit - start).div_ceil(stride))
                .collect();
            made(&shape, &|index| {
                let from = index.iter().zip(&starts).zip(&strides);
                let from: Vec<usize> = from
                    .map(|((&step, &start), &stride)| start + step * stride)
                    .collect();
                x.at(&from)
            })
        }
        "pad" => {
            let (low, high) = (attributes.signed("low"), attributes.signed("high"));
            let gaps = attributes.signed("interior");
            let shape: Vec<usize> = (0..low.len())
                .map(|axis| {
                    let size = x.shape[axis] as i64;
                    (size + (size - 1).max(0) * gaps[axis] + low[axis] + high[axis]) as usize
                })
                .collect();
            made(&shape, &|index| {
                let mut from = Vec::new();
                for (axis, &step) in index.iter().enumerate() {
                    let (place, stride) = (step as i64 - low[axis], gaps[axis] + 1);
                    let inside = place >= 0 && place % stride == 0;
                    if !inside || place / stride >= x.shape[axis] as i64 {
                        return operands[1].numbers[0];
                    }
                    from.push((place / stride) as usize);
                }
                x.at(&from)
            })
        }
        "pad-edge" => {
            let (low, high) = (attributes.list("low"), attributes.list("high"));
            let sizes = x.shape.iter().zip(&low).zip(&high);
            let shape: Vec<usize> = sizes
                .map(|((&size, &low), &high)| low + size + high)
                .collect();
            made(&shape, &|index| {
                let from = index.iter().zip(&low).zip(&x.shape);
                let from: Vec<usize> = from
                    .map(|((&step, &low), &size)| step.saturating_sub(low).min(size - 1))
                    .collect();
                x.at(&from)
            })
        }
        "reverse" => {
            let axes = attributes.list("axes");
            made(&x.shape, &|index| {
                let mut index = index.to_vec();
                for &axis in &axes {
                    index[axis] = x.shape[axis] - 1 - index[axis];
                }
                x.at(&index)
            })
        }
        "dynamic-slice" => {
            let sizes = attributes.list("sizes");
            let starts = starts(&operands[1], &x.shape, &sizes);
            made(&sizes, &|index| {
                let from = index.iter().zip(&starts);
                x.at(&from.map(|(&step, &start)| start + step).collect::<Vec<_>>())
            })
        }
        "dynamic-update-slice" => {
            let update = &operands[1];
            let starts = starts(&operands[2], &x.shape, &update.shape);
            let mut result = x.clone();
            for index in indexes(&update.shape) {
                let to = index.iter().zip(&starts);
                let to: Vec<usize> = to.map(|(&step, &start)| start + step).collect();
                let place = result.place(&to);
                result.numbers[place] = update.at(&index);
            }
            Some(vec![result])
        }
        _ => None,
    }
}

/// Starts that are clamped, so that a box of the inner shape is inside the outer.
fn starts(starts: &Array, outer: &[usize], inner: &[usize]) -> Vec<usize> {
    let sizes = outer.iter().zip(inner);
    let starts = starts.numbers.iter().zip(sizes);
    starts
        .map(|(start, (&outer, &inner))| start.whole().clamp(0, (outer - inner) as i128) as usize)
        .collect()
}

fn without(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let kept = shape.iter().enumerate();
    let kept = kept.filter(|(axis, _)| !axes.contains(axis));
    kept.map(|(_, &size)| size).collect()
}

fn sum(dtype: DType) -> impl Fn(Number, Number) -> Number {
    move |a, b| match (a, b) {
        (Whole(a), Whole(b)) => Whole(a + b).fit(dtype),
        (a, b) => Float(a.float() + b.float()),
    }
}

fn product(dtype: DType) -> impl Fn(Number, Number) -> Number {
    move |a, b| match (a, b) {
        (Whole(a), Whole(b)) => Whole(a.wrapping_mul(b)).fit(dtype),
        (a, b) => Float(a.float() * b.float()),
    }
}

fn identity(dtype: DType, product: bool) -> Number {
    if dtype.is_float() {
        Float(f64::from(u8::from(product)))
    } else {
        Whole(i128::from(product))
    }
}

fn order(op: &str, operands: &[Array], attributes: &Attributes<'_>) -> Option<Vec<Array>> {
    let x = operands.first()?;
    let dtype = x.dtype;
    let axis = || attributes.integer("axis");
    match op {
        "reduce-sum" | "reduce-product" | "reduce-max" | "reduce-min" | "reduce-any"
        | "reduce-all" => {
            let axes = attributes.list("axes");
            let shape = without(&x.shape, &axes);
            let mut found: Vec<Option<Number>> = vec![None; shape.iter().product()];
            let result = Array::made(dtype, &shape, |_| identity(dtype, false));
            for (index, &number) in indexes(&x.shape).iter().zip(&x.numbers) {
                let place = result.place(&without(index, &axes));
                found[place] = Some(match (found[place], op) {
                    (None, _) => number,
                    (Some(old), "reduce-sum") => sum(dtype)(old, number),
                    (Some(old), "reduce-product") => product(dtype)(old, number),
                    (Some(old), _) if old.is_nan() || number.is_nan() => Float(f64::NAN),
                    (Some(old), "reduce-max" | "reduce-any") if number.order(old).is_gt() => number,
                    (Some(old), "reduce-min" | "reduce-all") if number.order(old).is_lt() => number,
                    (Some(old), _) => old,
                });
            }
            let mut found = found.into_iter();
            let nothing = identity(dtype, matches!(op, "reduce-product" | "reduce-all"));
            Some(vec![Array::made(dtype, &shape, |_| {
                found.next().flatten().unwrap_or(nothing)
            })])
        }
        "arg-max" | "arg-min" => {
            let axis = axis();
            let shape = without(&x.shape, &[axis]);
            Some(vec![Array::made(DType::I32, &shape, |index| {
                let mut index = index.to_vec();
                index.insert(axis, 0);
                let line = x.line(&index, axis);
                let beats = |a: Number, b: Number| match (a.is_nan(), b.is_nan()) {
                    (_, true) => false,
                    (true, false) => true,
                    _ if op == "arg-max" => a.order(b).is_gt(),
                    _ => a.order(b).is_lt(),
                };
                let mut best = 0;
                for (place, &number) in line.iter().enumerate() {
                    if beats(number, line[best]) {
                        best = place;
                    }
                }
                Whole(best as i128)
            })])
        }
        "cumulative-sum" | "cumulative-product" => {
            let (axis, reverse) = (axis(), attributes.flag("reverse"));
            let mut result = x.clone();
            let mut all = indexes(&x.shape);
            if reverse {
                all.reverse();
            }
            for index in all {
                let mut before = index.clone();
                before[axis] = match reverse {
                    true if index[axis] + 1 == x.shape[axis] => continue,
                    true => index[axis] + 1,
                    false if index[axis] == 0 => continue,
                    false => index[axis] - 1,
                };
                let place = result.place(&index);
                let before = result.at(&before);
                result.numbers[place] = match op {
                    "cumulative-sum" => sum(dtype)(before, result.numbers[place]),
                    _ => product(dtype)(before, result.numbers[place]),
                };
            }
            Some(vec![result])
        }
        "sort" | "top-k" => {
            let axis = axis();
            let descending = op == "top-k" || attributes.flag("descending");
            let mut shape = x.shape.clone();
            if op == "top-k" {
                shape[axis] = attributes.integer("k");
            }
            let place = |index: &[usize]| {
                let line = x.line(index, axis);
                let mut places: Vec<usize> = (0..line.len()).collect();
                places.sort_by(|&a, &b| {
                    let order = line[a].order(line[b]);
                    if descending { order.reverse() } else { order }
                });
                places[index[axis]]
            };
            let values = Array::made(dtype, &shape, |index| x.line(index, axis)[place(index)]);
            let places = Array::made(DType::I32, &shape, |index| Whole(place(index) as i128));
            Some(vec![values, places])
        }
        _ => None,
    }
}

fn positions(
    op: &str,
    operands: &[Array],
    attributes: &Attributes<'_>,
    dtype: DType,
) -> Option<Vec<Array>> {
    let clamped = |index: Number, size: usize| index.whole().clamp(0, size as i128 - 1) as usize;
    match op {
        "iota" => {
            let axis = attributes.integer("axis");
            Some(vec![Array::made(
                dtype,
                &attributes.list("shape"),
                |index| converted(Whole(index[axis] as i128), dtype),
            )])
        }
        "one-hot" => {
            let shape = [&operands[0].shape[..], &[attributes.integer("classes")]].concat();
            Some(vec![Array::made(dtype, &shape, |index| {
                let (class, index) = index.split_last().unwrap();
                let hot = operands[0].at(index).whole() == *class as i128;
                identity(dtype, hot)
            })])
        }
        "take" => {
            let (x, indices, axis) = (&operands[0], &operands[1], attributes.integer("axis"));
            let rank = indices.shape.len();
            let shape = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
            Some(vec![Array::made(dtype, &shape, |index| {
                let row = clamped(indices.at(&index[axis..axis + rank]), x.shape[axis]);
                x.at(&[&index[..axis], &[row], &index[axis + rank..]].concat())
            })])
        }
        "take-along-axis" => {
            let (x, indices, axis) = (&operands[0], &operands[1], attributes.integer("axis"));
            Some(vec![Array::made(dtype, &indices.shape, |index| {
                let mut from = index.to_vec();
                from[axis] = clamped(indices.at(index), x.shape[axis]);
                x.at(&from)
            })])
        }
        "scatter-add" | "scatter-set" | "scatter-add-along-axis" => {
            let [x, indices, updates] = operands else {
                unreachable!("the rule asks for three operands")
            };
            let axis = attributes.integer("axis");
            let mut result = x.clone();
            for index in indexes(&updates.shape) {
                let row = match op {
                    "scatter-add-along-axis" => indices.at(&index),
                    _ => indices.at(&index[axis..=axis]),
                };
                let mut to = index.clone();
                to[axis] = clamped(row, x.shape[axis]);
                let place = result.place(&to);
                let update = updates.at(&index);
                result.numbers[place] = match op {
                    "scatter-set" => update,
                    _ => sum(dtype)(result.numbers[place], update),
                };
            }
            for number in &mut result.numbers {
                *number = number.fit(dtype);
            }
            Some(vec![result])
        }
        _ => None,
    }
}
