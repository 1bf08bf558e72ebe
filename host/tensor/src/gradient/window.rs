//! Derivatives of convolutions and pools.

use super::Backward;
use crate::emit::{Emit, integer, list};
use crate::ir::NodeId;
use crate::shape::{Dims, TensorType};
use crate::window::{AveragePool, Convolution, Wanted, Window};
use crate::{Attribute, ProgramError};

/// `[low, high]` of each axis in turn.
fn padding(window: &Window) -> Attribute {
    let pairs = window.low.iter().zip(&*window.high);
    list(Dims::collect(pairs.flat_map(|(&low, &high)| [low, high])))
}

impl Backward {
    pub(super) fn convolution(
        &mut self,
        convolution: &Convolution,
        [first, second]: [NodeId; 2],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        // In each case the adjoint takes the place of what was computed.
        let (by_first, by_second) = match convolution.wanted {
            Wanted::Result => (
                (Wanted::Operand, [up, second]),
                (Wanted::Kernel, [first, up]),
            ),
            Wanted::Operand => (
                (Wanted::Result, [up, second]),
                (Wanted::Kernel, [up, first]),
            ),
            Wanted::Kernel => (
                (Wanted::Operand, [second, up]),
                (Wanted::Result, [first, up]),
            ),
        };
        for (operand, (wanted, operands)) in [(first, by_first), (second, by_second)] {
            self.add_to(operand, |this| {
                let shape = this.shape(operand);
                this.related(convolution, wanted, operands, shape)
            })?;
        }
        Ok(())
    }

    /// One of the three operations with the attributes of a convolution.
    fn related(
        &mut self,
        convolution: &Convolution,
        wanted: Wanted,
        operands: [NodeId; 2],
        shape: Dims,
    ) -> Result<NodeId, ProgramError> {
        let window = &convolution.window;
        let mut attributes = vec![
            ("strides", list(window.strides)),
            ("padding", padding(window)),
            ("dilation", list(window.dilation)),
            ("groups", integer(convolution.groups)),
        ];
        let rest = list(Dims::collect(shape[2..].iter().copied()));
        let name = match wanted {
            Wanted::Result => "convolution",
            Wanted::Operand => {
                attributes.push(("spatial", rest));
                "convolution-transpose"
            }
            Wanted::Kernel => {
                attributes.push(("window", rest));
                "convolution-kernel"
            }
        };
        self.op_with(name, &operands, &attributes)
    }

    /// Each place passes its adjoint on to the position that won.
    pub(super) fn max_pool(
        &mut self,
        x: NodeId,
        positions: NodeId,
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let shape = this.shape(x);
            let size = Dims::collect(shape[2..].iter().copied()).product();
            let places = Dims::collect(this.shape(up)[2..].iter().copied()).product();
            let flat = |size| Dims::collect([shape[0], shape[1], size]);
            let positions = this.reshape(positions, flat(places))?;
            let updates = this.reshape(up, flat(places))?;
            let all = TensorType {
                dtype: this.ty(x).dtype,
                shape: flat(size),
            };
            let zeros = this.fill(0.0, all)?;
            let axis = ("axis", integer(2));
            let operands = [zeros, positions, updates];
            let sum = this.op_with("scatter-add-along-axis", &operands, &[axis])?;
            this.reshape(sum, shape)
        })
    }

    pub(super) fn average_pool(
        &mut self,
        pool: &AveragePool,
        x: NodeId,
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let mut attributes = vec![
                ("window", list(pool.window.size)),
                ("strides", list(pool.window.strides)),
                ("padding", padding(&pool.window)),
                ("count-padding", Attribute::Flag(pool.count_padding)),
            ];
            if pool.transposed {
                return this.op_with("average-pool", &[up], &attributes);
            }
            let spatial = Dims::collect(this.shape(x)[2..].iter().copied());
            attributes.push(("spatial", list(spatial)));
            this.op_with("average-pool-transpose", &[up], &attributes)
        })
    }
}
