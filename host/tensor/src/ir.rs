//! Typed programs. What is in a [`Graph`] obeys every rule of `docs/programs.md`, so the
//! gradient, the planner and the executor check nothing again.

use std::ops::Deref;

use crate::DType;
use crate::shape::{Dims, TensorType};

/// A node's position; equal to its instruction's position in the program.
pub(crate) type NodeId = usize;

/// A checked program.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// What a run takes.
    pub(crate) inputs: Vec<TensorType>,
    /// What a session holds.
    pub(crate) states: Vec<TensorType>,
    pub(crate) outputs: Vec<NodeId>,
    /// Index of the state, and the value that replaces it.
    pub(crate) updates: Vec<(usize, NodeId)>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) operands: Operands,
    pub(crate) ty: TensorType,
}

/// An operation with its attributes.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Input(usize),
    State(usize),
    /// Every element is the same.
    Fill(Literal),
    /// The elements are the instruction's `data`.
    Data,
    Iota {
        axis: usize,
    },
    Element(Element),
    StopGradient,
    Reshape,
    /// Dimension `i` of the result is dimension `permutation[i]` of the operand.
    Transpose(Dims),
    /// Dimension `i` of the operand is dimension `axes[i]` of the result.
    Broadcast(Dims),
    Reduce {
        kind: Reduction,
        axes: Dims,
    },
    ArgMax {
        axis: usize,
    },
    Dot(Box<DotAxes>),
    Softmax {
        axis: usize,
        log: bool,
    },
    Take {
        axis: usize,
    },
    ScatterAdd {
        axis: usize,
    },
    OneHot,
}

/// Operations that work on each element alone. Operands have the result's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Unary(Unary),
    Binary(Binary),
    Compare(Compare),
    Logic(Logic),
    Not,
    Select,
    Convert,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($case:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($case),* }

        impl $name {
            pub(crate) fn parse(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$case),)* _ => None }
            }
        }
    };
}

named!(Unary {
    Negate = "negate",
    Abs = "abs",
    Sign = "sign",
    Square = "square",
    Exp = "exp",
    Log = "log",
    Sqrt = "sqrt",
    Rsqrt = "rsqrt",
    Tanh = "tanh",
    Sigmoid = "sigmoid",
});

impl Unary {
    pub(crate) fn takes_integers(self) -> bool {
        matches!(self, Self::Negate | Self::Abs | Self::Sign | Self::Square)
    }
}

named!(Binary {
    Add = "add",
    Subtract = "subtract",
    Multiply = "multiply",
    Divide = "divide",
    Maximum = "maximum",
    Minimum = "minimum",
    Power = "power",
    Remainder = "remainder",
});

named!(Compare {
    Equal = "equal",
    NotEqual = "not-equal",
    Less = "less",
    LessEqual = "less-equal",
    Greater = "greater",
    GreaterEqual = "greater-equal",
});

named!(Logic {
    And = "and",
    Or = "or",
    Xor = "xor",
});

named!(Reduction {
    Sum = "reduce-sum",
    Mean = "reduce-mean",
    Max = "reduce-max",
    Min = "reduce-min",
});

/// The axes of a `dot-general`. The lists of one operand are disjoint.
#[derive(Debug, Clone)]
pub(crate) struct DotAxes {
    pub(crate) lhs_batch: Dims,
    pub(crate) rhs_batch: Dims,
    pub(crate) lhs_contract: Dims,
    pub(crate) rhs_contract: Dims,
}

impl DotAxes {
    /// The left operand's axes that are neither batch nor contracted, in order.
    pub(crate) fn lhs_free(&self, rank: usize) -> Dims {
        free(rank, &self.lhs_batch, &self.lhs_contract)
    }

    /// The right operand's axes that are neither batch nor contracted, in order.
    pub(crate) fn rhs_free(&self, rank: usize) -> Dims {
        free(rank, &self.rhs_batch, &self.rhs_contract)
    }
}

fn free(rank: usize, batch: &[usize], contract: &[usize]) -> Dims {
    Dims::collect((0..rank).filter(|axis| !batch.contains(axis) && !contract.contains(axis)))
}

/// One element of any type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) dtype: DType,
    /// The element in its first bytes, little-endian; the rest is 0.
    pub(crate) bytes: [u8; 8],
}

impl Literal {
    pub(crate) fn new(dtype: DType, element: &[u8]) -> Self {
        let mut bytes = [0; 8];
        bytes[..dtype.size()].copy_from_slice(&element[..dtype.size()]);
        Self { dtype, bytes }
    }

    pub(crate) fn element(&self) -> &[u8] {
        &self.bytes[..self.dtype.size()]
    }

    pub(crate) fn is_one(&self) -> bool {
        match self.dtype {
            DType::F32 => self.element() == 1f32.to_le_bytes(),
            _ => u64::from_le_bytes(self.bytes) == 1,
        }
    }
}

/// At most three nodes, without an allocation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Operands {
    length: usize,
    nodes: [NodeId; 3],
}

impl Operands {
    /// `None` when there are more than three: no operation takes so many.
    pub(crate) fn new(nodes: &[NodeId]) -> Option<Self> {
        let mut operands = Self {
            length: nodes.len(),
            ..Self::default()
        };
        operands
            .nodes
            .get_mut(..nodes.len())?
            .copy_from_slice(nodes);
        Some(operands)
    }
}

impl Deref for Operands {
    type Target = [NodeId];

    fn deref(&self) -> &[NodeId] {
        &self.nodes[..self.length]
    }
}
