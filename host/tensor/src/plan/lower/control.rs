//! Operations that run bodies: each is one kernel, whose bodies are compiled once.

use std::sync::Arc;

use super::{Lowering, Source, View};
use crate::DType;
use crate::cpu::{Kernel, Plain, PlainOp, Repeat, Steps};
use crate::ir::{Body, NodeId, Scan, While};
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
        let body = self.body(&scan.body)?;
        let steps = Steps::Scan {
            sequences: scan.sequences,
            reverse: scan.reverse,
        };
        let repeat = Repeat::new(body, steps, scan.carries, scan.length);
        self.repeat(repeat, scan.body.index, operands, node)
    }

    pub(super) fn while_loop(
        &mut self,
        looped: &While,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let steps = Steps::While {
            condition: self.body(&looped.condition)?,
        };
        let body = self.body(&looped.body)?;
        let repeat = Repeat::new(body, steps, looped.carries, looped.limit);
        self.repeat(repeat, looped.body.index, operands, node)
    }

    /// The body's own plan; made once, however often it is used.
    fn body(&mut self, body: &Body) -> Result<Arc<Compiled>, ProgramError> {
        if let Some(compiled) = self.bodies.get(&body.index) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(compile_graph(&body.graph, self.budget, self.bodies)?);
        self.bodies.insert(body.index, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// A kernel with the node's results, and behind them the memory that it works in.
    fn repeat(
        &mut self,
        repeat: Repeat,
        body: usize,
        operands: &[NodeId],
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
        let operands = operands.iter().map(|&node| self.in_memory(node)).collect();
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
}
