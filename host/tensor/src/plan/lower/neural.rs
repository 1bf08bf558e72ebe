//! Kernels of convolutions, pools, norms and attention. They compute in `f32` or `f64`:
//! half types are widened before them and rounded behind.

use smallvec::SmallVec;

use super::{Lowering, Source, View};
use crate::ProgramError;
use crate::composite::Composite;
use crate::cpu::{
    Attention, AttentionGradient, Average, BatchNorm, BatchNormGradient, Convolve, MaxPool, Norm,
    NormGradient, PlainOp,
};
use crate::ir::{NodeId, Real};
use crate::shape::{Dims, TensorType};
use crate::window::{AveragePool, Convolution, Window};

impl Lowering<'_> {
    /// A kernel for the operation whose first result is `node`, that needs `scratch`
    /// elements of the first result's type besides; sets the source of each result.
    fn wide_kernel(
        &mut self,
        op: PlainOp,
        operands: &[NodeId],
        node: NodeId,
        scratch: usize,
    ) -> Result<Source, ProgramError> {
        let values = operands.iter().map(|&node| self.widened_in_memory(node));
        let values: Vec<_> = values.collect();
        let types = self.graph.result_types(node);
        let wide = TensorType::widened;
        let mut written: SmallVec<[TensorType; 4]> = types.iter().map(wide).collect();
        if scratch > 0 {
            written.push(self.scratch(wide(&types[0]), scratch)?);
        }
        let results = self.kernel(op, values, &written);
        for (place, (&result, ty)) in results.iter().zip(&types).enumerate() {
            let whole = Source::View(View::whole(result, &ty.shape));
            self.sources[node + place] = Some(if ty.dtype == ty.dtype.wide() {
                whole
            } else {
                self.rounded(whole, *ty)
            });
        }
        Ok(self.source(node))
    }

    /// The type of so many elements of working memory.
    fn scratch(&self, like: TensorType, elements: usize) -> Result<TensorType, ProgramError> {
        let bytes = elements.saturating_mul(like.dtype.size());
        if bytes as u64 > self.budget.limit() {
            return Err(ProgramError::OutOfMemory {
                needed: bytes as u64,
                allowed: self.budget.limit(),
            });
        }
        Ok(TensorType {
            dtype: like.dtype,
            shape: Dims::collect([elements]),
        })
    }

    pub(super) fn convolution(
        &mut self,
        convolution: &Convolution,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let ty = self.graph.nodes[node].ty;
        let shapes = [operands[0], operands[1], node];
        let shapes = shapes.map(|node| self.graph.nodes[node].ty.shape);
        let kernel = Convolve::new(
            convolution,
            ty.dtype.wide(),
            [&shapes[0], &shapes[1], &shapes[2]],
        );
        let scratch = kernel.scratch();
        self.wide_kernel(PlainOp::Convolve(kernel), operands, node, scratch)
    }

    pub(super) fn max_pool(
        &mut self,
        window: &Window,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let x = self.graph.nodes[operands[0]].ty;
        let pool = MaxPool::new(window, x.dtype.wide(), &x.shape[2..]);
        self.wide_kernel(PlainOp::MaxPool(pool), operands, node, 0)
    }

    pub(super) fn average_pool(
        &mut self,
        pool: &AveragePool,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let elements = if pool.transposed { node } else { operands[0] };
        let ty = self.graph.nodes[elements].ty;
        let average = Average::new(pool, ty.dtype.wide(), &ty.shape[2..]);
        self.wide_kernel(PlainOp::Average(average), operands, node, 0)
    }
}

impl Lowering<'_> {
    /// Norms and attention.
    pub(super) fn neural(
        &mut self,
        composite: &Composite,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let x = self.graph.nodes[operands[0]].ty;
        let dtype = x.dtype.wide();
        let norm = |axis: usize, epsilon: Real, centred: bool| Norm {
            dtype,
            size: Dims::collect(x.shape[axis..].iter().copied()).product(),
            epsilon: epsilon.get(),
            centred,
        };
        let batch_norm = |epsilon: Real| BatchNorm {
            dtype,
            images: x.shape[0],
            channels: x.shape[1],
            inner: Dims::collect(x.shape[2..].iter().copied()).product(),
            epsilon: epsilon.get(),
        };
        let op = match *composite {
            Composite::Norm {
                axis,
                epsilon,
                centred,
            } => PlainOp::Norm(norm(axis, epsilon, centred)),
            Composite::NormGradient {
                axis,
                epsilon,
                centred,
            } => {
                let gradient = NormGradient {
                    norm: norm(axis, epsilon, centred),
                    rows: Dims::collect(x.shape[..axis].iter().copied()).product(),
                };
                let scratch = gradient.scratch();
                return self.wide_kernel(PlainOp::NormGradient(gradient), operands, node, scratch);
            }
            Composite::BatchNorm { epsilon } => PlainOp::BatchNorm(batch_norm(epsilon)),
            Composite::BatchNormGradient { epsilon } => {
                PlainOp::BatchNormGradient(BatchNormGradient(batch_norm(epsilon)))
            }
            Composite::Attention { scale, causal } => {
                let mask = operands.get(3).copied();
                PlainOp::Attention(self.attention(operands, mask, scale, causal))
            }
            Composite::AttentionGradient { scale, causal } => {
                let mask = (operands.len() == 7).then(|| operands[3]);
                let attention = self.attention(operands, mask, scale, causal);
                PlainOp::AttentionGradient(AttentionGradient(attention))
            }
            _ => unreachable!("replaced by its definition"),
        };
        self.wide_kernel(op, operands, node, 0)
    }

    fn attention(
        &self,
        operands: &[NodeId],
        mask: Option<NodeId>,
        scale: Real,
        causal: bool,
    ) -> Attention {
        let [q, k, v] = [0, 1, 2].map(|place: usize| self.graph.nodes[operands[place]].ty);
        let batch = q.shape.len() - 2;
        let batches = |shape: &Dims| Dims::collect(shape[..batch].iter().copied());
        Attention {
            dtype: q.dtype.wide(),
            batches: batches(&q.shape).product(),
            queries: q.shape[batch],
            keys: k.shape[batch],
            depth: q.shape[batch + 1],
            value: v.shape[batch + 1],
            scale: scale.get(),
            causal,
            mask: mask.map(|mask| {
                let mask = self.graph.nodes[mask].ty.shape;
                (batches(&q.shape), batches(&mask))
            }),
        }
    }
}
