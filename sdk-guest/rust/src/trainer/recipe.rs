//! How a model learns: its optimizer, and what happens to gradients before it.

use crate::DType;
use crate::nn::{Optimizer, StateSpec};

/// How a model learns.
///
/// An optimizer alone is a recipe for all parameters:
///
/// ```
/// use trainshed_sdk::nn::AdamW;
/// use trainshed_sdk::trainer::Recipe;
///
/// // Biases and the scales of norms are not drawn to 0.
/// let recipe = Recipe::new(AdamW::default())
///     .group(|spec| spec.shape.len() < 2, AdamW { weight_decay: 0.0, ..AdamW::default() }, 1.0)
///     .freeze(|spec| spec.name.starts_with("encoder."))
///     .clip_norm(1.0)
///     .accumulate(4)
///     .average(0.999);
/// ```
pub struct Recipe {
    optimizer: Box<dyn Optimizer>,
    groups: Vec<Group>,
    pub(super) clip_norm: Option<f64>,
    pub(super) accumulate: u32,
    pub(super) average: Option<f64>,
    pub(super) dtype: DType,
}

/// Some parameters that learn in their own way.
struct Group {
    holds: Box<dyn Fn(&StateSpec) -> bool>,
    /// None when they do not learn.
    optimizer: Option<Box<dyn Optimizer>>,
    rate: f64,
}

/// How one parameter learns.
pub(super) struct Rule<'r> {
    pub(super) optimizer: &'r dyn Optimizer,
    /// Its learning rate divided by that of the step.
    pub(super) rate: f64,
}

impl Recipe {
    /// All parameters learn by one optimizer.
    pub fn new(optimizer: impl Optimizer + 'static) -> Self {
        Self {
            optimizer: Box::new(optimizer),
            groups: Vec::new(),
            clip_norm: None,
            accumulate: 1,
            average: None,
            dtype: DType::F32,
        }
    }

    /// The parameters that `holds` is true for learn by another optimizer, at the step's
    /// learning rate times `rate`. Of several groups, the first that holds it counts.
    #[must_use]
    pub fn group(
        mut self,
        holds: impl Fn(&StateSpec) -> bool + 'static,
        optimizer: impl Optimizer + 'static,
        rate: f64,
    ) -> Self {
        self.groups.push(Group {
            holds: Box::new(holds),
            optimizer: Some(Box::new(optimizer)),
            rate,
        });
        self
    }

    /// The parameters that `holds` is true for do not learn.
    #[must_use]
    pub fn freeze(mut self, holds: impl Fn(&StateSpec) -> bool + 'static) -> Self {
        self.groups.push(Group {
            holds: Box::new(holds),
            optimizer: None,
            rate: 0.0,
        });
        self
    }

    /// Scales all gradients of a step down together when their common norm is more than
    /// `norm`. PyTorch's `clip_grad_norm_`.
    ///
    /// Source: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent
    /// neural networks", ICML 2013, algorithm 1.
    #[must_use]
    pub fn clip_norm(mut self, norm: f64) -> Self {
        self.clip_norm = Some(norm);
        self
    }

    /// A step learns from the mean gradient of `batches` batches; less than 2 is 1.
    #[must_use]
    pub fn accumulate(mut self, batches: u32) -> Self {
        self.accumulate = batches.max(1);
        self
    }

    /// Keeps an exponential moving average of each parameter, of which a step keeps the
    /// share `decay`; the model is judged and used with the averages.
    ///
    /// They begin as the parameters do, and are saved as `average.<name>`.
    ///
    /// Source: B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by
    /// averaging", SIAM J. Control Optim. 30 (1992), in its exponential form.
    #[must_use]
    pub fn average(mut self, decay: f64) -> Self {
        self.average = Some(decay);
        self
    }

    /// Parameters, and what the optimizer keeps of them, are `f64`.
    #[must_use]
    pub fn double_precision(mut self) -> Self {
        self.dtype = DType::F64;
        self
    }

    /// How a parameter learns; none when it does not.
    pub(super) fn rule(&self, spec: &StateSpec) -> Option<Rule<'_>> {
        match self.groups.iter().find(|group| (group.holds)(spec)) {
            None => Some(Rule {
                optimizer: self.optimizer.as_ref(),
                rate: 1.0,
            }),
            Some(group) => group.optimizer.as_ref().map(|optimizer| Rule {
                optimizer: optimizer.as_ref(),
                rate: group.rate,
            }),
        }
    }
}

/// All parameters learn by this optimizer.
impl<O: Optimizer + 'static> From<O> for Recipe {
    fn from(optimizer: O) -> Self {
        Self::new(optimizer)
    }
}
