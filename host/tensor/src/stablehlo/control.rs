//! Bodies that run many times.

use crate::ProgramError;
use crate::ir::{Scan, While};
use crate::shape::TensorType;

use super::text::{Element, Text, Val};

impl Text {
    /// The last carries, then the stacked values. All that the loop reads is carried along,
    /// because a loop of XLA sees nothing else.
    pub(super) fn scan(
        &mut self,
        scan: &Scan,
        operands: &[&Val],
        types: &[TensorType],
    ) -> Result<Vec<Val>, ProgramError> {
        let stacked = types[scan.carries..].iter();
        let stacked: Vec<Val> = stacked
            .map(|ty| self.blank(ty.dtype.into(), &ty.shape))
            .collect();
        let results = scan.carries + stacked.len();
        let carries = operands[..scan.carries].iter().copied().cloned();
        if scan.length == 0 {
            return Ok(carries.chain(stacked).collect());
        }
        let zero = self.integer(Element::I64, &[], 0);
        let read = operands[scan.carries..].iter().copied().cloned();
        let carried: Vec<Val> = carries.chain(stacked).chain([zero]).chain(read).collect();
        let length = i64::try_from(scan.length).unwrap_or(i64::MAX);
        let ended = self.repeat(
            &carried,
            |text, values| {
                let length = text.integer(Element::I64, &[], length);
                Ok(text.compare("LT", &values[results], &length))
            },
            |text, values| text.step(scan, values, results, length),
        )?;
        Ok(ended.into_iter().take(results).collect())
    }

    /// One step of a scan: carries, stacked values (`results` of both), the number of the
    /// step, sequences and invariants.
    fn step(
        &mut self,
        scan: &Scan,
        values: &[Val],
        results: usize,
        length: i64,
    ) -> Result<Vec<Val>, ProgramError> {
        let count = &values[results];
        let last = self.integer(Element::I64, &[], length - 1);
        let place = if scan.reverse {
            self.map("subtract", &[&last, count])
        } else {
            count.clone()
        };
        let (sequences, invariants) = values[results + 1..].split_at(scan.sequences);
        let mut arguments = values[..scan.carries].to_vec();
        for sequence in sequences {
            arguments.push(self.at_step(sequence, &place));
        }
        arguments.extend_from_slice(invariants);
        let outputs = self.body(&scan.body.graph, &arguments)?;

        let (carries, made) = outputs.split_at(scan.carries);
        let mut next = carries.to_vec();
        for (stacked, made) in values[scan.carries..results].iter().zip(made) {
            next.push(self.put_step(stacked, made, &place));
        }
        let one = self.integer(Element::I64, &[], 1);
        next.push(self.map("add", &[count, &one]));
        next.extend_from_slice(&values[results + 1..]);
        Ok(next)
    }

    pub(super) fn repeat_while(
        &mut self,
        looped: &While,
        operands: &[&Val],
    ) -> Result<Vec<Val>, ProgramError> {
        let limit = i64::try_from(looped.limit).unwrap_or(i64::MAX);
        let zero = self.integer(Element::I64, &[], 0);
        let mut carried: Vec<Val> = operands.iter().copied().cloned().collect();
        let places = carried.len();
        carried.push(zero);
        let ended = self.repeat(
            &carried,
            |text, values| {
                let limit = text.integer(Element::I64, &[], limit);
                let few = text.compare("LT", &values[places], &limit);
                let goes_on = text.body(&looped.condition.graph, &values[..places])?;
                Ok(text.map("and", &[&few, &goes_on[0]]))
            },
            |text, values| {
                let mut next = text.body(&looped.body.graph, &values[..places])?;
                next.extend_from_slice(&values[looped.carries..places]);
                let one = text.integer(Element::I64, &[], 1);
                next.push(text.map("add", &[&values[places], &one]));
                Ok(next)
            },
        )?;
        Ok(ended.into_iter().take(looped.carries).collect())
    }

    /// Writes a body out; returns its outputs.
    fn body(
        &mut self,
        graph: &crate::ir::Graph,
        arguments: &[Val],
    ) -> Result<Vec<Val>, ProgramError> {
        let values = self.graph(graph, arguments)?;
        let outputs = graph.outputs.iter();
        Ok(outputs.map(|&node| values[node].clone()).collect())
    }

    /// The slice of a sequence at a step.
    fn at_step(&mut self, sequence: &Val, place: &Val) -> Val {
        let shape = sequence.shape[1..].to_vec();
        if sequence.elements() == 0 {
            return self.empty(sequence.element, &shape);
        }
        let starts = self.first_at(place, sequence.rank());
        let sizes = [&[1], shape.as_slice()].concat();
        let slice = self.dynamic_slice(sequence, &starts, &sizes);
        self.reshape(&slice, &shape)
    }

    fn put_step(&mut self, stacked: &Val, value: &Val, place: &Val) -> Val {
        if stacked.elements() == 0 {
            return stacked.clone();
        }
        let starts = self.first_at(place, stacked.rank());
        let slice = self.reshape(value, &[&[1], value.shape.as_slice()].concat());
        self.dynamic_update_slice(stacked, &slice, &starts)
    }

    /// Where a step begins: at `place` of the first axis.
    fn first_at(&mut self, place: &Val, rank: usize) -> Vec<Val> {
        let zero = self.integer(Element::I64, &[], 0);
        let mut starts = vec![zero; rank];
        starts[0] = place.clone();
        starts
    }

    /// A tensor that will be written over.
    fn blank(&mut self, element: Element, shape: &[usize]) -> Val {
        if shape.contains(&0) {
            return self.empty(element, shape);
        }
        if element == Element::BOOL {
            return self.flag(shape, false);
        }
        self.integer(element, shape, 0)
    }
}
