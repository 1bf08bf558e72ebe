//! Operations that run bodies: each is one kernel, whose bodies are compiled once.

use std::sync::Arc;

use super::{Lowering, Source, View};
use crate::DType;
use crate::cpu::{Kernel, Plain, PlainOp, Repeat, Steps, ValueId};
use crate::ir::{Body, Graph, NodeId, Op, Scan, While};
use crate::plan::{Compiled, compile_graph};
use crate::shape::{Dims, MAX_TENSOR_BYTES, TensorType};
use crate::tensor::Line;
use crate::{Problem, ProgramError};

impl Lowering<'_> {
    pub(super) fn scan(
        &mut self,
        scan: &Scan,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let turned = turned_inputs(&scan.body.graph, scan.carries + scan.sequences);
        let body = self.body(&scan.body, &turned)?;
        let steps = Steps::Scan {
            sequences: scan.sequences,
            reverse: scan.reverse,
        };
        let repeat = Repeat::new(body, steps, scan.carries, scan.length);
        self.repeat(repeat, scan.body.index, operands, &turned, node)
    }

    pub(super) fn while_loop(
        &mut self,
        looped: &While,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let steps = Steps::While {
            condition: self.body(&looped.condition, &[])?,
        };
        let body = self.body(&looped.body, &[])?;
        let repeat = Repeat::new(body, steps, looped.carries, looped.limit);
        self.repeat(repeat, looped.body.index, operands, &[], node)
    }

    /// The body's own plan for inputs of which some lie turned; made once, however often it is
    /// used.
    fn body(&mut self, body: &Body, turned: &[usize]) -> Result<Arc<Compiled>, ProgramError> {
        let key = (body.index, turned.to_vec());
        if let Some(compiled) = self.bodies.get(&key) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = compile_graph(&body.graph, turned, self.budget, self.bodies)?;
        let compiled = Arc::new(compiled);
        self.bodies.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// A kernel with the node's results, and behind them the memory that it works in.
    fn repeat(
        &mut self,
        repeat: Repeat,
        body: usize,
        operands: &[NodeId],
        turned: &[usize],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        // Bodies inside each other could double it with each level; far below that, no
        // budget holds it.
        let workspace = repeat.workspace_bytes();
        if workspace > MAX_TENSOR_BYTES {
            return Err(ProgramError::Invalid(Problem {
                body: u32::try_from(body).ok(),
                instruction: None,
                label: None,
                message: format!(
                    "one step needs {workspace} bytes, but it may need at most {MAX_TENSOR_BYTES}"
                ),
            }));
        }
        let operands = operands.iter().enumerate().map(|(place, &node)| {
            if turned.contains(&place) {
                self.turned_in_memory(node)
            } else {
                self.in_memory(node)
            }
        });
        let operands = operands.collect();
        let mut types = self.graph.result_types(node);
        let has_elements = types.iter().any(|ty| ty.elements() > 0);
        let lines = workspace.div_ceil(Line::BYTES);
        types.push(TensorType {
            dtype: DType::U8,
            shape: Dims::collect([lines * Line::BYTES]),
        });
        self.clock += 1;
        let results: Vec<_> = types
            .iter()
            .map(|&ty| self.value(ty, super::Origin::Kernel, None))
            .collect();
        if has_elements {
            let plain = Plain {
                op: PlainOp::Repeat(Box::new(repeat)),
                operands,
                results: results.clone(),
            };
            let kernel = Kernel::Plain(Box::new(plain));
            self.kernels.push((2 * self.clock, kernel));
        }
        types.pop();
        for (place, (&result, ty)) in results.iter().zip(&types).enumerate() {
            self.sources[node + place] = Some(Source::View(View::whole(result, &ty.shape)));
        }
        Ok(self.source(node))
    }

    /// A matrix in memory with its columns one after another.
    fn turned_in_memory(&mut self, node: NodeId) -> ValueId {
        let ty = self.graph.nodes[node].ty;
        let turned = turned(&ty);
        let source = match self.source(node) {
            Source::View(view) => {
                let strides = Dims::collect(view.strides.iter().rev().copied());
                Source::View(view.with_strides(strides))
            }
            literal @ Source::Literal(_) => literal,
        };
        match source {
            Source::View(view) if view.is_whole(&turned.shape) => {
                self.read(view.value);
                view.value
            }
            source => self.copy(source, turned),
        }
    }
}

/// The type of the transposed matrix.
pub(super) fn turned(ty: &TensorType) -> TensorType {
    TensorType {
        dtype: ty.dtype,
        shape: Dims::collect(ty.shape.iter().rev().copied()),
    }
}

/// The inputs of a body, from `first` on, that products read only as matrices whose rows would
/// have to be brought together in every step. They are given to the body turned: brought
/// together once.
fn turned_inputs(body: &Graph, first: usize) -> Vec<usize> {
    #[derive(Clone, Copy)]
    struct Seen {
        input: usize,
        is_transposed: bool,
    }
    let mut seen: Vec<Option<Seen>> = vec![None; body.nodes.len()];
    // Whether each input gains, and whether something stands against it.
    let mut gains = vec![(false, false); body.inputs.len()];
    for (id, node) in body.nodes.iter().enumerate() {
        if let Op::Input(input) = node.op {
            let is_matrix = node.ty.shape.len() == 2 && input >= first;
            seen[id] = is_matrix.then_some(Seen {
                input,
                is_transposed: false,
            });
        }
        for (side, &operand) in node.operands.iter().enumerate() {
            let Some(matrix) = seen[operand] else {
                continue;
            };
            let (gains, stands_against) = &mut gains[matrix.input];
            match &node.op {
                Op::Transpose(permutation) => {
                    let swaps = permutation.first() == Some(&1);
                    seen[id] = Some(Seen {
                        is_transposed: matrix.is_transposed != swaps,
                        ..matrix
                    });
                }
                Op::Dot(axes) if side == 1 && axes.rhs_batch.is_empty() => {
                    // Along a row of the matrix in memory, or along a column.
                    let along_row = axes.rhs_contract.first() == Some(&1);
                    let sums_rows = along_row != matrix.is_transposed;
                    *gains |= sums_rows && axes.rhs_contract.len() == 1;
                    *stands_against |= !sums_rows;
                }
                Op::Dot(axes) if axes.lhs_batch.is_empty() => {}
                _ => *stands_against = true,
            }
        }
    }
    for &output in &body.outputs {
        if let Some(matrix) = seen[output] {
            gains[matrix.input].1 = true;
        }
    }
    let turned = gains.iter().enumerate();
    let turned = turned.filter(|&(_, &(gains, stands_against))| gains && !stands_against);
    turned.map(|(input, _)| input).collect()
}
