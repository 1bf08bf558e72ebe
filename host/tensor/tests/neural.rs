//! Convolutions, pools, norms and attention: values and gradients against those of PyTorch
//! in double precision (`fixtures/neural.py` makes the file), in every float type.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use support::random::Random;
use support::{Build, budget, list, run, run_with, threads};
use trainshed_tensor::{Attribute, DType, Executable, Program, Tensor, Value, gradient};

#[derive(Deserialize)]
struct Array {
    dtype: String,
    shape: Vec<u64>,
    values: Vec<Json>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    attributes: BTreeMap<String, Json>,
    operands: Vec<Array>,
    results: Vec<Array>,
    weights: Array,
    gradients: Vec<Array>,
}

impl Array {
    fn numbers(&self) -> Vec<f64> {
        let number = |value: &Json| match value {
            Json::Bool(flag) => f64::from(u8::from(*flag)),
            value => value.as_f64().unwrap(),
        };
        self.values.iter().map(number).collect()
    }

    /// The tensor, with floats in that type.
    fn tensor(&self, float: DType) -> Tensor {
        let dtype = DType::parse(&self.dtype).unwrap_or(float);
        support::tensor(dtype, &self.shape, &self.numbers())
    }

    #[track_caller]
    fn check(&self, found: &Tensor, what: &str) {
        let shape: Vec<u64> = found.shape().iter().map(|&size| size as u64).collect();
        assert_eq!(shape, self.shape, "{what}");
        let tolerance = match found.dtype() {
            DType::F64 => 1e-13,
            DType::F32 => 2e-6,
            DType::F16 => 4e-3,
            DType::Bf16 => 3e-2,
            _ => 0.0,
        };
        let expected = self.numbers();
        let scale = expected.iter().filter(|&&number| number > -1e29);
        let scale = scale.fold(1.0, |scale: f64, number| scale.max(number.abs()));
        for (place, (expected, found)) in expected.iter().zip(support::numbers(found)).enumerate() {
            // Stands for the logarithm of 0.
            let fits = if *expected < -1e29 {
                found == f64::NEG_INFINITY
            } else {
                (expected - found).abs() <= tolerance * scale
            };
            assert!(
                fits,
                "{what}: element {place} is {found}, but should be {expected}"
            );
        }
    }
}

fn attribute(value: &Json) -> Attribute {
    match value {
        Json::Array(values) => {
            let values: Vec<i64> = values.iter().map(|value| value.as_i64().unwrap()).collect();
            values.as_slice().into()
        }
        Json::Bool(flag) => Attribute::Flag(*flag),
        Json::Number(number) if number.is_f64() => number.as_f64().unwrap().into(),
        value => value.as_i64().unwrap().into(),
    }
}

impl Case {
    fn all() -> Vec<Self> {
        let path = format!("{}/tests/fixtures/neural.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn attributes(&self) -> Vec<(&str, Attribute)> {
        let attributes = self.attributes.iter();
        attributes
            .map(|(name, value)| (name.as_str(), attribute(value)))
            .collect()
    }

    fn inputs(&self, float: DType) -> Vec<Tensor> {
        let operands = self.operands.iter().chain([&self.weights]);
        operands.map(|array| array.tensor(float)).collect()
    }

    /// A program whose outputs are the results, and then the gradients by the operands that
    /// are floats. With `second`, also those of the sum of the squares of the gradients.
    fn program(&self, inputs: &[Tensor], second: bool) -> Program {
        let mut program = Program::default();
        let values: Vec<Value> = inputs
            .iter()
            .enumerate()
            .map(|(index, tensor)| program.input_like(index, tensor))
            .collect();
        let (&weights, operands) = values.split_last().unwrap();
        let first = program.push(&self.op, operands, &self.attributes());
        for output in 0..self.results.len() as u32 {
            program.output(Value { output, ..first });
        }
        let loss = self.weighted(&mut program, first, weights);
        let floats: Vec<Value> = operands
            .iter()
            .zip(inputs)
            .filter(|(_, tensor)| tensor.dtype().is_float())
            .map(|(value, _)| *value)
            .collect();
        let program = gradient(&program, loss, &floats).unwrap();
        if !second {
            return program;
        }
        let mut program = program;
        let gradients = program.outputs[self.results.len()..].to_vec();
        let mut losses = gradients.iter().zip(&floats).map(|(&gradient, _)| gradient);
        let mut total: Option<Value> = None;
        for (place, found) in losses.by_ref().enumerate() {
            let square = program.op("square", &[found]);
            let rank = self.gradients[place].shape.len();
            let axes: Vec<i64> = (0..rank as i64).collect();
            let sum = program.push("reduce-sum", &[square], &[("axes", list(&axes))]);
            total = Some(match total {
                Some(total) => program.op("add", &[total, sum]),
                None => sum,
            });
        }
        gradient(&program, total.unwrap(), &floats).unwrap()
    }

    fn weighted(&self, program: &mut Program, result: Value, weights: Value) -> Value {
        let product = program.op("multiply", &[result, weights]);
        let axes: Vec<i64> = (0..self.weights.shape.len() as i64).collect();
        program.push("reduce-sum", &[product], &[("axes", list(&axes))])
    }
}

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::Bf16, DType::F16];

#[test]
fn operations_and_their_gradients_have_the_values_of_pytorch_in_every_float_type() {
    for (number, case) in Case::all().iter().enumerate() {
        for float in FLOATS {
            let what = format!("case {number}, `{}` of {float}", case.op);
            let inputs = case.inputs(float);
            let outputs = run(&case.program(&inputs, false), &inputs).unwrap();
            let expected = case.results.iter().chain(&case.gradients);
            assert_eq!(outputs.len(), case.results.len() + case.gradients.len());
            for (place, (expected, found)) in expected.zip(&outputs).enumerate() {
                expected.check(found, &format!("{what}, output {place}"));
            }
        }
    }
}

#[test]
fn results_and_gradients_have_the_same_bits_on_any_number_of_threads() {
    for case in Case::all() {
        let inputs = case.inputs(DType::F32);
        let program = case.program(&inputs, false);
        let one = run(&program, &inputs).unwrap();
        let three = run_with(&program, &inputs, &threads(3)).unwrap();
        for (one, three) in one.iter().zip(&three) {
            assert_eq!(one.bytes(), three.bytes(), "{}", case.op);
        }
    }
}

/// Along a random direction, of a loss in double precision.
#[test]
fn gradients_of_gradients_agree_with_differences() {
    let mut random = Random::new(5);
    for (number, case) in Case::all().iter().enumerate() {
        // Large ones add nothing here.
        if case.operands.iter().any(|array| array.values.len() > 200) {
            continue;
        }
        let inputs = case.inputs(DType::F64);
        let program = case.program(&inputs, true);
        let first = case.results.len();
        let count = case.gradients.len();
        let found = run(&program, &inputs).unwrap();
        let directions: Vec<Tensor> = case
            .operands
            .iter()
            .map(|array| array.tensor(DType::F64))
            .filter(|tensor| tensor.dtype() == DType::F64)
            .map(|tensor| random.tensor(DType::F64, tensor.shape()))
            .collect();
        let mut slope = 0.0;
        for (gradient, direction) in found[first + count..].iter().zip(&directions) {
            let pairs = support::numbers(gradient)
                .into_iter()
                .zip(support::numbers(direction));
            slope += pairs.map(|(g, d)| g * d).sum::<f64>();
        }
        let executable = Executable::compile(&program, &budget()).unwrap();
        let mut session = executable.bind(Vec::new(), &threads(1)).unwrap();
        let mut loss_at = |step: f64| {
            let mut moved = inputs.clone();
            let mut directions = directions.iter();
            for tensor in &mut moved[..case.operands.len()] {
                if tensor.dtype() != DType::F64 {
                    continue;
                }
                let direction = support::numbers(directions.next().unwrap());
                let numbers: Vec<f64> = support::numbers(tensor)
                    .iter()
                    .zip(direction)
                    .map(|(x, d)| x + step * d)
                    .collect();
                let shape: Vec<u64> = tensor.shape().iter().map(|&size| size as u64).collect();
                *tensor = support::tensor(DType::F64, &shape, &numbers);
            }
            let gradients = session.run(&moved).unwrap();
            let gradients = gradients[first..first + count].iter();
            gradients
                .flat_map(support::numbers)
                .map(|number| number * number)
                .sum::<f64>()
        };
        let difference = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
        assert!(
            (slope - difference).abs() <= 1e-5 * (1.0 + slope.abs() + loss_at(0.0)),
            "case {number}, `{}`: slope {slope}, difference {difference}",
            case.op
        );
    }
}

/// A convolution of 3x3 at stride 1: the shapes of operands and result.
struct Definition {
    x: Vec<usize>,
    kernel: Vec<usize>,
    y: Vec<usize>,
    low: [usize; 2],
}

impl Definition {
    /// Calls `visit` with the places in x, kernel and y of each product.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let place = |shape: &[usize], index: [usize; 4]| {
            ((index[0] * shape[1] + index[1]) * shape[2] + index[2]) * shape[3] + index[3]
        };
        let (x, y) = (&self.x, &self.y);
        for image in 0..x[0] {
            for output in 0..y[1] {
                for channel in 0..x[1] {
                    for spot in 0..y[2] * y[3] * 9 {
                        let (places, tap) = (spot / 9, spot % 9);
                        let (row, column) = (places / y[3], places % y[3]);
                        let (down, across) = (tap / 3, tap % 3);
                        let at = [row + down, column + across];
                        let inside = (0..2).all(|axis| {
                            at[axis] >= self.low[axis] && at[axis] - self.low[axis] < x[axis + 2]
                        });
                        if inside {
                            let [at_row, at_column] = [0, 1].map(|axis| at[axis] - self.low[axis]);
                            visit(
                                place(x, [image, channel, at_row, at_column]),
                                place(&self.kernel, [output, channel, down, across]),
                                place(y, [image, output, row, column]),
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Such convolutions are computed in another way than by their sums.
#[test]
fn convolutions_of_many_channels_are_their_sums_on_any_number_of_threads() {
    let cases = [
        ([1, 16, 32], [10, 10], [0, 0, 0, 0]),
        ([3, 30, 20], [7, 9], [1, 1, 1, 1]),
        ([5, 48, 16], [11, 17], [2, 0, 1, 2]),
        ([250, 16, 16], [8, 8], [1, 1, 1, 1]),
        ([2, 16, 16], [34, 6], [3, 0, 0, 3]),
    ];
    let mut random = Random::new(11);
    for ([images, channels, outputs], [rows, columns], padding) in cases {
        let size = |size: usize, low: i64, high: i64| size + (low + high) as usize - 2;
        let definition = Definition {
            x: vec![images, channels, rows, columns],
            kernel: vec![outputs, channels, 3, 3],
            y: vec![
                images,
                outputs,
                size(rows, padding[0], padding[1]),
                size(columns, padding[2], padding[3]),
            ],
            low: [padding[0] as usize, padding[2] as usize],
        };
        for (float, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-13)] {
            let shapes = [&definition.x, &definition.kernel, &definition.y];
            let [x, kernel, y] = shapes.map(|shape| random.tensor(float, shape));
            let numbers = [&x, &kernel, &y].map(support::numbers);
            let mut sums = shapes.map(|shape| vec![0.0; shape.iter().product()]);
            definition.each(|at_x, at_kernel, at_y| {
                sums[0][at_x] += numbers[1][at_kernel] * numbers[2][at_y];
                sums[1][at_kernel] += numbers[0][at_x] * numbers[2][at_y];
                sums[2][at_y] += numbers[0][at_x] * numbers[1][at_kernel];
            });
            let attributes = vec![
                ("strides", list(&[1, 1])),
                ("padding", list(&padding)),
                ("dilation", list(&[1, 1])),
                ("groups", 1.into()),
            ];
            let spatial = ("spatial", list(&[rows as i64, columns as i64]));
            let window = ("window", list(&[3, 3]));
            let operations = [
                ("convolution-transpose", [&y, &kernel], Some(spatial)),
                ("convolution-kernel", [&x, &y], Some(window)),
                ("convolution", [&x, &kernel], None),
            ];
            for ((op, operands, attribute), sums) in operations.into_iter().zip(&sums) {
                let mut program = Program::default();
                let operands = operands.map(Tensor::clone);
                let values = [0, 1].map(|index| program.input_like(index, &operands[index]));
                let mut attributes = attributes.clone();
                attributes.extend(attribute);
                let result = program.push(op, &values, &attributes);
                program.output(result);
                let found = run(&program, &operands).unwrap().remove(0);
                let scale = sums.iter().fold(0.0, |most: f64, sum| most.max(sum.abs()));
                for (found, sum) in support::numbers(&found).iter().zip(sums) {
                    assert!(
                        (found - sum).abs() <= tolerance * scale,
                        "`{op}` of {float} from {shapes:?}: {found} instead of {sum}"
                    );
                }
                let again = run_with(&program, &operands, &threads(3)).unwrap();
                assert_eq!(found.bytes(), again[0].bytes(), "`{op}`");
            }
        }
    }
}
