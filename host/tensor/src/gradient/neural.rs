//! Derivatives of norms and attention: operations of their own.

use super::Backward;
use crate::composite::Composite;
use crate::emit::{Emit, integer};
use crate::ir::NodeId;
use crate::{Attribute, ProgramError};

impl Backward {
    /// `y` is the first result.
    pub(super) fn neural(
        &mut self,
        composite: &Composite,
        y: NodeId,
        operands: &[NodeId],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        if !operands.iter().any(|&operand| self.on_path[operand]) {
            return Ok(());
        }
        let number = |value: f64| Attribute::Number(value);
        let (name, given, attributes) = match *composite {
            Composite::Norm {
                axis,
                epsilon,
                centred,
            } => {
                let attributes = vec![("axis", integer(axis)), ("epsilon", number(epsilon.get()))];
                let name = if centred {
                    "layer-norm-gradient"
                } else {
                    "rms-norm-gradient"
                };
                (name, vec![operands[0], operands[1], up], attributes)
            }
            Composite::BatchNorm { epsilon } => (
                "batch-norm-gradient",
                vec![operands[0], operands[1], up],
                vec![("epsilon", number(epsilon.get()))],
            ),
            Composite::Attention { scale, causal } => (
                "attention-gradient",
                [operands, &[y, y + 1, up]].concat(),
                vec![
                    ("scale", number(scale.get())),
                    ("causal", Attribute::Flag(causal)),
                ],
            ),
            _ => unreachable!("has no derivative of its own"),
        };
        let results = self.emit(name, &given, &attributes)?;
        // A mask comes last and has no derivative.
        for (&operand, &result) in operands.iter().zip(&results) {
            self.add_to(operand, |_| Ok(result))?;
        }
        Ok(())
    }
}
