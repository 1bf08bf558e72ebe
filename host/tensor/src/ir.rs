//! Typed programs. What is in a [`Graph`] obeys every rule of `docs/programs.md`, so the
//! gradient, the planner and the executor check nothing again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::DType;
use crate::composite::Composite;
use crate::shape::{Dims, TensorType};
use crate::window::{AveragePool, Convolution, Window};

/// A node's position in its graph.
pub(crate) type NodeId = usize;

/// The nodes of an instruction's results, or of a node's operands.
pub(crate) type Nodes = SmallVec<[NodeId; 3]>;

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

/// The first result of an operation; others are [`Op::Part`]s right behind it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) operands: Nodes,
    pub(crate) ty: TensorType,
}

impl Graph {
    /// The types of all results of the operation whose first result is `node`.
    pub(crate) fn result_types(&self, node: NodeId) -> SmallVec<[TensorType; 3]> {
        let parts = self.nodes[node + 1..]
            .iter()
            .take_while(|part| matches!(part.op, Op::Part(_)));
        std::iter::once(&self.nodes[node])
            .chain(parts)
            .map(|node| node.ty)
            .collect()
    }
}

/// An operation with its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Input(usize),
    State(usize),
    /// Every element is the same.
    Fill(Literal),
    /// The elements, little-endian and row-major.
    Data(Arc<[u8]>),
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
    Concatenate {
        axis: usize,
    },
    Slice(Box<Slice>),
    Pad(Box<Padding>),
    /// The axes along which the order of the elements is turned round.
    Reverse(Dims),
    DynamicSlice,
    DynamicUpdateSlice,
    Reduce {
        kind: Reduction,
        axes: Dims,
    },
    /// The position of the greatest element, or of the least.
    ArgMax {
        axis: usize,
        least: bool,
    },
    Dot(Box<DotAxes>),
    Take {
        axis: usize,
    },
    ScatterAdd {
        axis: usize,
    },
    ScatterSet {
        axis: usize,
    },
    TakeAlong {
        axis: usize,
    },
    ScatterAddAlong {
        axis: usize,
    },
    OneHot,
    Convolution(Box<Convolution>),
    /// Values and positions.
    MaxPool(Box<Window>),
    AveragePool(Box<AveragePool>),
    Cumulative(Cumulative),
    Sort {
        axis: usize,
        descending: bool,
    },
    TopK {
        axis: usize,
        k: usize,
    },
    RandomBits {
        stream: u32,
    },
    RandomFold,
    /// An operation that is defined by others, but has a kernel of its own.
    Composite(Box<Composite>),
    /// Operands: carries, sequences, invariants. Results: carries, stacked values.
    Scan(Box<Scan>),
    /// Operands: carries, invariants. Results: carries.
    While(Box<While>),
    /// Another result, counted from 1, of the node that is the operand.
    Part(usize),
}

/// A body that runs once per step along the first axis of its sequences.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scan {
    pub(crate) body: Body,
    pub(crate) carries: usize,
    pub(crate) sequences: usize,
    pub(crate) length: usize,
    /// From the last step to the first.
    pub(crate) reverse: bool,
}

/// A body that runs while a condition holds, at most `limit` times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct While {
    pub(crate) condition: Body,
    pub(crate) body: Body,
    pub(crate) carries: usize,
    pub(crate) limit: usize,
}

/// A body of the program, known by its position in it.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) index: usize,
    pub(crate) graph: Arc<Graph>,
    /// How many bodies run inside each other when this one does, itself included.
    pub(crate) depth: usize,
}

impl Body {
    /// A checked body that is the `index`th of its program.
    pub(crate) fn new(index: usize, graph: Graph) -> Self {
        let inner = graph.nodes.iter().map(|node| match &node.op {
            Op::Scan(scan) => scan.body.depth,
            Op::While(looped) => looped.body.depth.max(looped.condition.depth),
            _ => 0,
        });
        Self {
            index,
            depth: 1 + inner.max().unwrap_or(0),
            graph: Arc::new(graph),
        }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl Eq for Body {}

impl Hash for Body {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}

/// A number of an attribute; equal when the bits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Real(u64);

impl Real {
    pub(crate) fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Operations that work on each element alone. Operands have the result's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    Unary(Unary),
    Binary(Binary),
    Compare(Compare),
    Logic(Logic),
    Not,
    IsFinite,
    Select,
    Convert,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($case:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    Expm1 = "expm1",
    Log = "log",
    Log1p = "log1p",
    Sqrt = "sqrt",
    Rsqrt = "rsqrt",
    Sin = "sin",
    Cos = "cos",
    Tanh = "tanh",
    Sigmoid = "sigmoid",
    Erf = "erf",
    Floor = "floor",
    Ceil = "ceil",
    Round = "round",
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
    Atan2 = "atan2",
});

impl Binary {
    pub(crate) fn takes_integers(self) -> bool {
        !matches!(self, Self::Power | Self::Atan2)
    }

    /// Whether processors have an instruction for it, or two.
    pub(crate) fn is_simple(self) -> bool {
        !matches!(self, Self::Power | Self::Atan2 | Self::Remainder)
    }
}

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
    Product = "reduce-product",
    Max = "reduce-max",
    Min = "reduce-min",
    Any = "reduce-any",
    All = "reduce-all",
});

/// Per dimension, the first element of a slice and the step to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slice {
    pub(crate) starts: Dims,
    pub(crate) strides: Dims,
}

/// Per dimension, what is put before, behind and between the elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Padding {
    /// Negative when elements are removed; above `-2^32` and below `2^32`.
    pub(crate) low: SmallVec<[i64; 4]>,
    /// As `low`.
    pub(crate) high: SmallVec<[i64; 4]>,
    pub(crate) interior: Dims,
}

/// Running sums or products along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Cumulative {
    pub(crate) product: bool,
    pub(crate) axis: usize,
    pub(crate) reverse: bool,
}

/// The axes of a `dot-general`. The lists of one operand are disjoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
            DType::F64 => self.element() == 1f64.to_le_bytes(),
            DType::Bf16 => self.element() == half::bf16::ONE.to_le_bytes(),
            DType::F16 => self.element() == half::f16::ONE.to_le_bytes(),
            DType::I32 | DType::I64 | DType::U8 | DType::U32 | DType::Bool => {
                u64::from_le_bytes(self.bytes) == 1
            }
        }
    }
}
