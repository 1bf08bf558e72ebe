//! Loops inside a program.

use super::{Graph, Var, integer};
use crate::DType;
use crate::compute::{Attribute, Body, Value};

/// What [`Graph::scan`] leaves.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The carries after the last step.
    pub carries: Vec<Var>,
    /// What each step gave beside them, stacked: `[length, …]`, each at its step's place.
    pub stacked: Vec<Var>,
}

impl Graph {
    /// Runs `step` once for each of the first dimension's `length` slices of `sequences`:
    /// a recurrent network, in one instruction. With `reverse`, from the last to the first.
    ///
    /// `step` is recorded once. It is given the carries (at first `carries`) and this
    /// step's slices, and answers the next carries, of the same types, and values to
    /// stack. Values from around it may be used freely: they are the same in each step,
    /// and what is computed of them alone is computed once, before the loop.
    ///
    /// ```
    /// use trainshed_sdk::DType;
    /// use trainshed_sdk::graph::Graph;
    ///
    /// let graph = Graph::new();
    /// let x = graph.input("x", DType::F32, &[5, 2, 3]);
    /// let weight = graph.state("weight", DType::F32, &[3, 3]);
    /// let start = graph.full(DType::F32, &[2, 3], 0.0);
    /// let scanned = graph.scan(5, &[&start], &[&x], false, |carries, slices| {
    ///     let next = (&slices[0] + carries[0].matmul_transposed(&weight)).tanh();
    ///     (vec![next.clone()], vec![next])
    /// });
    /// assert_eq!(scanned.carries[0].shape(), [2, 3]);
    /// assert_eq!(scanned.stacked[0].shape(), [5, 2, 3]);
    /// assert!(graph.finish().is_ok());
    /// ```
    pub fn scan(
        &self,
        length: usize,
        carries: &[&Var],
        sequences: &[&Var],
        reverse: bool,
        step: impl FnOnce(&[Var], &[Var]) -> (Vec<Var>, Vec<Var>),
    ) -> Scanned {
        let around = self.innermost(&[carries, sequences].concat());
        let body = around.body();
        let carried = body.stand_ins("carry", carries);
        let mut slices = Vec::new();
        for sequence in sequences {
            let Some((&length_found, shape)) = sequence.shape.split_first() else {
                sequence.refused("scan", "sequences with at least one axis");
                continue;
            };
            if length_found != length {
                sequence.refused("scan", &format!("sequences of {length} steps"));
            }
            slices.push(body.input("slice", sequence.dtype, shape));
        }
        let (next, stacked) = step(&carried, &slices);
        self.check_carries("scan", &carried, &next);
        let outputs: Vec<&Var> = next.iter().chain(&stacked).collect();
        let outputs = body.resolved("scan", &outputs);
        let invariants = body.captured();

        let attributes = vec![
            ("body", around.keep_body(&body, outputs)),
            ("carries", integer(carries.len())),
            ("sequences", integer(sequences.len())),
            ("length", integer(length)),
            ("reverse", Attribute::Flag(reverse)),
        ];
        let invariants: Vec<&Var> = invariants.iter().collect();
        let operands = [carries, sequences, &invariants].concat();
        let (graph, instruction) = around.record("scan", &operands, attributes);
        let mut output = 0..;
        let mut result = |dtype: DType, shape: &[usize]| {
            let output = output.next().unwrap_or(u32::MAX);
            graph.result(instruction, output, dtype, shape)
        };
        Scanned {
            carries: carried
                .iter()
                .map(|carry| result(carry.dtype, &carry.shape))
                .collect(),
            stacked: stacked
                .iter()
                .map(|value| result(value.dtype, &[&[length], &*value.shape].concat()))
                .collect(),
        }
    }

    /// Runs `body` while `condition`, a `bool` scalar, is true, at most `limit` times; the
    /// carries after the last run. Has no gradient.
    ///
    /// Both are recorded once, are given the carries and may use values from around them;
    /// `body` answers the next carries, of the same types.
    pub fn while_loop(
        &self,
        carries: &[&Var],
        limit: usize,
        condition: impl FnOnce(&[Var]) -> Var,
        body: impl FnOnce(&[Var]) -> Vec<Var>,
    ) -> Vec<Var> {
        let around = self.innermost(carries);
        let (asking, doing) = (around.body(), around.body());
        let asked = condition(&asking.stand_ins("carry", carries));
        if asked.dtype != DType::Bool || !asked.shape.is_empty() {
            asked.refused("while", "a bool scalar as its condition");
        }
        let asked = asking.resolved("while", &[&asked]);
        let carried = doing.stand_ins("carry", carries);
        // Both bodies take the same invariants.
        let share = |from: &Graph, to: &Graph| {
            for outer in from.captured().into_iter().skip(to.captured().len()) {
                to.capture(outer);
            }
        };
        share(&asking, &doing);
        let next = body(&carried);
        self.check_carries("while", &carried, &next);
        let next: Vec<&Var> = next.iter().collect();
        let next = doing.resolved("while", &next);
        share(&doing, &asking);
        let invariants = doing.captured();

        let attributes = vec![
            ("condition", around.keep_body(&asking, asked)),
            ("body", around.keep_body(&doing, next)),
            ("carries", integer(carries.len())),
            ("limit", integer(limit)),
        ];
        let invariants: Vec<&Var> = invariants.iter().collect();
        let operands = [carries, &invariants].concat();
        let (graph, instruction) = around.record("while", &operands, attributes);
        (0..)
            .zip(&carried)
            .map(|(output, carry)| graph.result(instruction, output, carry.dtype, &carry.shape))
            .collect()
    }

    /// An empty body of an operation in this graph.
    fn body(&self) -> Self {
        let body = Self::new();
        body.recording.borrow_mut().parent = Some(self.clone());
        body
    }

    /// An input of this body for each of `values`.
    fn stand_ins(&self, name: &str, values: &[&Var]) -> Vec<Var> {
        let values = values.iter();
        values
            .map(|value| self.input(name, value.dtype, &value.shape))
            .collect()
    }

    /// The values of this body that stand for `vars`.
    fn resolved(&self, op: &str, vars: &[&Var]) -> Vec<Value> {
        let vars = vars.iter();
        vars.map(|var| {
            self.resolve(var).unwrap_or_else(|| {
                self.fail(format!("a result of `{op}` belongs to another graph"));
                var.value
            })
        })
        .collect()
    }

    /// What this body takes from around it.
    fn captured(&self) -> Vec<Var> {
        let recording = self.recording.borrow();
        recording
            .captured
            .iter()
            .map(|(outer, _)| outer.clone())
            .collect()
    }

    /// Puts a body into the program; the attribute that names it.
    fn keep_body(&self, body: &Self, outputs: Vec<Value>) -> Attribute {
        let instructions = std::mem::take(&mut body.recording.borrow_mut().program.instructions);
        let root = self.root();
        let bodies = &mut root.recording.borrow_mut().program.bodies;
        bodies.push(Body {
            instructions,
            outputs,
        });
        integer(bodies.len() - 1)
    }

    fn check_carries(&self, op: &str, carries: &[Var], next: &[Var]) {
        let described = |vars: &[Var]| vars.iter().map(Var::described).collect::<Vec<_>>();
        let (before, after) = (described(carries), described(next));
        if before != after {
            let (before, after) = (before.join(", "), after.join(", "));
            self.fail(format!(
                "`{op}` has the carries {before}, but a step makes them {after}"
            ));
        }
    }
}
