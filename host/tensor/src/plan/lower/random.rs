//! Sources of random bits. They are members of groups, so what is made of them alone never
//! reaches memory.

use super::{Lowering, Origin, Source, View};
use crate::ir::NodeId;
use crate::shape::TensorType;

impl Lowering<'_> {
    pub(super) fn random_bits(&mut self, stream: u32, key: NodeId, ty: TensorType) -> Source {
        let words = match self.source(key) {
            Source::View(view) => {
                self.read(view.value);
                [0, 1].map(|word: usize| {
                    let steps = word.wrapping_mul(view.strides[0]);
                    let offset = view.offset.wrapping_add(steps);
                    Source::View(View { offset, ..view })
                })
            }
            literal @ Source::Literal(_) => [literal; 2],
        };
        let group = self.new_group(ty.shape);
        let value = self.value(ty, Origin::Kernel, Some(group));
        self.groups[group].push_random(self.clock, value, words, stream);
        Source::View(View::whole(value, &ty.shape))
    }
}
