//! One line or more for each operation.

/// An operation with operands and attributes; further results where it has some.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) op: &'static str,
    /// What `T` stands for, one after the other.
    pub(crate) types: &'static str,
    pub(crate) operands: &'static str,
    /// As JSON.
    pub(crate) attributes: &'static str,
    pub(crate) results: u32,
    /// Whether it is also run on numbers at the edges of their types.
    pub(crate) edges: bool,
}

const fn case(
    op: &'static str,
    types: &'static str,
    operands: &'static str,
    attributes: &'static str,
) -> Case {
    Case {
        op,
        types,
        operands,
        attributes,
        results: 1,
        edges: false,
    }
}

impl Case {
    /// Also on numbers at the edges of their types.
    const fn edges(self) -> Self {
        Self {
            edges: true,
            ..self
        }
    }

    const fn results(self, results: u32) -> Self {
        Self { results, ..self }
    }
}

pub(crate) const CASES: &[Case] = &[
    case("negate", "number", "T[4,9]", "{}").edges(),
    case("abs", "number", "T[4,9]", "{}").edges(),
    case("sign", "number", "T[4,9]", "{}").edges(),
    case("square", "number", "T[4,9]", "{}").edges(),
    case("exp", "float", "T[4,9]", "{}").edges(),
    case("expm1", "float", "T[4,9]", "{}").edges(),
    case("log", "float", "T[4,9]", "{}").edges(),
    case("log1p", "float", "T[4,9]", "{}").edges(),
    case("sqrt", "float", "T[4,9]", "{}").edges(),
    case("rsqrt", "float", "T[4,9]", "{}").edges(),
    case("sin", "float", "T[4,9]", "{}").edges(),
    case("cos", "float", "T[4,9]", "{}").edges(),
    case("tanh", "float", "T[4,9]", "{}").edges(),
    case("sigmoid", "float", "T[4,9]", "{}").edges(),
    case("erf", "float", "T[4,9]", "{}").edges(),
    case("floor", "float", "T[4,9]", "{}").edges(),
    case("ceil", "float", "T[4,9]", "{}").edges(),
    case("round", "float", "T[4,9]", "{}").edges(),
    case("is-finite", "float", "T[4,9]", "{}").edges(),
    case("add", "number", "T[8,9] T[8,9]", "{}").edges(),
    case("subtract", "number", "T[8,9] T[8,9]", "{}").edges(),
    case("multiply", "number", "T[8,9] T[8,9]", "{}").edges(),
    case("divide", "number", "T[8,9] T[8,9]", "{}").edges(),
    case("maximum", "number", "T[8,9] T[8,9]", "{}").edges(),
    case("minimum", "number", "T[8,9] T[8,9]", "{}").edges(),
    case("power", "float", "T[8,9] T[8,9]", "{}").edges(),
    case("atan2", "float", "T[8,9] T[8,9]", "{}").edges(),
    case("remainder", "number", "T[8,9] T[8,9]", "{}").edges(),
    case("equal", "any", "T[8,9] T[8,9]", "{}").edges(),
    case("not-equal", "any", "T[8,9] T[8,9]", "{}").edges(),
    case("less", "any", "T[8,9] T[8,9]", "{}").edges(),
    case("less-equal", "any", "T[8,9] T[8,9]", "{}").edges(),
    case("greater", "any", "T[8,9] T[8,9]", "{}").edges(),
    case("greater-equal", "any", "T[8,9] T[8,9]", "{}").edges(),
    case("and", "bits", "T[8,9] T[8,9]", "{}").edges(),
    case("or", "bits", "T[8,9] T[8,9]", "{}").edges(),
    case("xor", "bits", "T[8,9] T[8,9]", "{}").edges(),
    case("not", "bits", "T[8,9]", "{}").edges(),
    case("select", "any", "bool[4,9] T[4,9] T[4,9]", "{}").edges(),
    case("clamp", "number", "T[4,9] T[4,9] T[4,9]", "{}").edges(),
    case("convert", "any", "T[4,9]", r#"{"dtype":"f32"}"#).edges(),
    case("convert", "any", "T[4,9]", r#"{"dtype":"i32"}"#).edges(),
    case("convert", "any", "T[4,9]", r#"{"dtype":"i64"}"#).edges(),
    case("convert", "any", "T[4,9]", r#"{"dtype":"u32"}"#).edges(),
    case("convert", "any", "T[4,9]", r#"{"dtype":"u8"}"#).edges(),
    case("convert", "any", "T[4,9]", r#"{"dtype":"bool"}"#).edges(),
    case("stop-gradient", "any", "T[4]", "{}"),
    case("reshape", "any", "T[2,6]", r#"{"shape":[3,4]}"#),
    case("reshape", "f32", "T[1,1]", r#"{"shape":[]}"#),
    case("squeeze", "any", "T[2,1,3,1]", r#"{"axes":[1,3]}"#),
    case("transpose", "any", "T[2,3,4]", r#"{"permutation":[2,0,1]}"#),
    case(
        "broadcast",
        "any",
        "T[3,1]",
        r#"{"shape":[2,3,4],"axes":[1,2]}"#,
    ),
    case("broadcast", "f32", "T[]", r#"{"shape":[2,0],"axes":[]}"#),
    case(
        "concatenate",
        "any",
        "T[2,3] T[2,1] T[2,2]",
        r#"{"axis":1}"#,
    ),
    case("concatenate", "f32", "T[2,0] T[2,1]", r#"{"axis":1}"#),
    case("concatenate", "f32", "T[2,3]", r#"{"axis":0}"#),
    case("split", "any", "T[2,5]", r#"{"axis":1,"sizes":[1,4,0]}"#).results(3),
    case(
        "slice",
        "any",
        "T[5,7]",
        r#"{"starts":[1,0],"limits":[4,7],"strides":[1,3]}"#,
    ),
    case(
        "slice",
        "f32",
        "T[5]",
        r#"{"starts":[2],"limits":[2],"strides":[1]}"#,
    ),
    case(
        "pad",
        "any",
        "T[3,4] T[]",
        r#"{"low":[1,-1],"high":[-1,2],"interior":[0,2]}"#,
    ),
    case(
        "pad",
        "f32",
        "T[0,2] T[]",
        r#"{"low":[1,0],"high":[1,0],"interior":[1,0]}"#,
    ),
    case("pad-edge", "any", "T[3,4]", r#"{"low":[2,0],"high":[0,3]}"#),
    case("reverse", "any", "T[3,4]", r#"{"axes":[0,1]}"#),
    case("dynamic-slice", "any", "T[] i32[0]", r#"{"sizes":[]}"#),
    case("dynamic-update-slice", "any", "T[] T[] i32[0]", "{}"),
    case("dynamic-update-slice", "f32", "T[3] T[0] i32[1]", "{}"),
    case(
        "dynamic-slice",
        "any",
        "T[5,6] i32[2]",
        r#"{"sizes":[2,3]}"#,
    )
    .edges(),
    case(
        "dynamic-slice",
        "index",
        "f32[5,6] T[2]",
        r#"{"sizes":[2,3]}"#,
    )
    .edges(),
    case("dynamic-update-slice", "any", "T[5,6] T[2,3] i32[2]", "{}").edges(),
    case(
        "dynamic-update-slice",
        "index",
        "f32[5,6] f32[2,3] T[2]",
        "{}",
    )
    .edges(),
    case("reduce-sum", "number", "T[3,4,5]", r#"{"axes":[0,2]}"#),
    case("reduce-sum", "f32", "T[0,2]", r#"{"axes":[0]}"#),
    case("reduce-mean", "float", "T[3,4,5]", r#"{"axes":[1]}"#),
    case("reduce-mean", "f32", "T[0,2]", r#"{"axes":[0]}"#),
    case("reduce-product", "number", "T[3,4,5]", r#"{"axes":[1]}"#),
    case("reduce-max", "number", "T[3,4,5]", r#"{"axes":[1,2]}"#).edges(),
    case("reduce-min", "number", "T[3,4,5]", r#"{"axes":[0]}"#).edges(),
    case("reduce-any", "bool", "T[3,4]", r#"{"axes":[1]}"#),
    case("reduce-all", "bool", "T[3,4]", r#"{"axes":[1]}"#),
    case(
        "reduce-variance",
        "float",
        "T[3,4,5]",
        r#"{"axes":[0,2],"correction":1}"#,
    ),
    case(
        "reduce-variance",
        "f32",
        "T[1,5]",
        r#"{"axes":[0],"correction":1}"#,
    ),
    case("reduce-logsumexp", "float", "T[3,4,5]", r#"{"axes":[0,2]}"#),
    case("reduce-logsumexp", "f32", "T[0,5]", r#"{"axes":[0]}"#),
    case("arg-max", "number", "T[4,7]", r#"{"axis":1}"#).edges(),
    case("arg-max", "number", "T[9,3]", r#"{"axis":0}"#).edges(),
    case("arg-min", "number", "T[4,7]", r#"{"axis":1}"#).edges(),
    case(
        "cumulative-sum",
        "number",
        "T[3,7]",
        r#"{"axis":1,"reverse":false}"#,
    ),
    case(
        "cumulative-sum",
        "f32",
        "T[6,2]",
        r#"{"axis":0,"reverse":true}"#,
    ),
    case(
        "cumulative-product",
        "number",
        "T[3,7]",
        r#"{"axis":1,"reverse":false}"#,
    ),
    case(
        "cumulative-product",
        "f32",
        "T[6,2]",
        r#"{"axis":0,"reverse":true}"#,
    ),
    case(
        "cumulative-sum",
        "f32",
        "T[3,1]",
        r#"{"axis":1,"reverse":true}"#,
    ),
    case("sort", "f32", "T[2,0]", r#"{"axis":1,"descending":true}"#).results(2),
    case("top-k", "f32", "T[2,3]", r#"{"axis":1,"k":0}"#).results(2),
    case(
        "sort",
        "number",
        "T[4,19]",
        r#"{"axis":1,"descending":false}"#,
    )
    .results(2)
    .edges(),
    case(
        "sort",
        "number",
        "T[19,3]",
        r#"{"axis":0,"descending":true}"#,
    )
    .results(2)
    .edges(),
    case("top-k", "number", "T[4,19]", r#"{"axis":1,"k":3}"#)
        .results(2)
        .edges(),
    case("take", "any", "T[2,3,4] i32[2,2]", r#"{"axis":1}"#).edges(),
    case("take", "index", "f32[5,2] T[6]", r#"{"axis":0}"#).edges(),
    case("take", "f32", "T[0,2] i32[0]", r#"{"axis":0}"#),
    case(
        "take-along-axis",
        "any",
        "T[3,5,2] i32[3,4,2]",
        r#"{"axis":1}"#,
    )
    .edges(),
    case(
        "take-along-axis",
        "index",
        "f32[3,5] T[3,2]",
        r#"{"axis":1}"#,
    )
    .edges(),
    case(
        "scatter-add",
        "number",
        "T[4,3] i32[6] T[6,3]",
        r#"{"axis":0}"#,
    ),
    case(
        "scatter-add",
        "index",
        "f32[2,4] T[5] f32[2,5]",
        r#"{"axis":1}"#,
    )
    .edges(),
    case(
        "scatter-add",
        "f32",
        "T[4,3] i32[0] T[0,3]",
        r#"{"axis":0}"#,
    ),
    case(
        "scatter-set",
        "any",
        "T[4,3] i32[6] T[6,3]",
        r#"{"axis":0}"#,
    )
    .edges(),
    case(
        "scatter-set",
        "index",
        "f32[2,4] T[5] f32[2,5]",
        r#"{"axis":1}"#,
    )
    .edges(),
    case(
        "scatter-add-along-axis",
        "number",
        "T[3,5] i32[3,4] T[3,4]",
        r#"{"axis":1}"#,
    ),
    case(
        "scatter-add-along-axis",
        "index",
        "f32[5,3] T[4,3] f32[4,3]",
        r#"{"axis":0}"#,
    )
    .edges(),
    case(
        "one-hot",
        "integer",
        "T[3,4]",
        r#"{"classes":5,"dtype":"f32"}"#,
    )
    .edges(),
    case(
        "one-hot",
        "integer",
        "T[9]",
        r#"{"classes":301,"dtype":"u8"}"#,
    )
    .edges(),
    case(
        "dot-general",
        "float",
        "T[4,2,3,5] T[2,3,4,2]",
        r#"{"lhs-batch":[1],"rhs-batch":[3],"lhs-contract":[0],"rhs-contract":[2]}"#,
    ),
    case(
        "dot-general",
        "float",
        "T[17,33] T[33,19]",
        r#"{"lhs-batch":[],"rhs-batch":[],"lhs-contract":[1],"rhs-contract":[0]}"#,
    ),
    case(
        "dot-general",
        "f32",
        "T[2,0] T[0,2]",
        r#"{"lhs-batch":[],"rhs-batch":[],"lhs-contract":[1],"rhs-contract":[0]}"#,
    ),
    case(
        "convolution",
        "float",
        "T[2,4,7,6] T[6,2,3,2]",
        r#"{"strides":[2,1],"padding":[1,0,0,2],"dilation":[1,2],"groups":2}"#,
    ),
    case(
        "convolution",
        "f32",
        "T[2,3,9] T[5,3,4]",
        r#"{"strides":[3],"padding":[2,3],"dilation":[2],"groups":1}"#,
    ),
    case(
        "convolution-transpose",
        "float",
        "T[2,6,4,6] T[6,2,3,2]",
        r#"{"strides":[2,1],"padding":[1,0,0,2],"dilation":[1,2],"groups":2,"spatial":[8,6]}"#,
    ),
    case(
        "convolution-kernel",
        "float",
        "T[2,4,8,6] T[2,6,4,6]",
        r#"{"strides":[2,1],"padding":[1,0,0,2],"dilation":[1,2],"groups":2,"window":[3,2]}"#,
    ),
    case(
        "max-pool",
        "float",
        "T[2,3,7,6]",
        r#"{"window":[3,2],"strides":[2,1],"padding":[1,1,0,1],"dilation":[1,2]}"#,
    )
    .results(2)
    .edges(),
    case(
        "average-pool",
        "float",
        "T[2,3,7,6]",
        r#"{"window":[3,2],"strides":[2,1],"padding":[1,1,0,1],"count-padding":false}"#,
    ),
    case(
        "average-pool",
        "float",
        "T[2,3,9]",
        r#"{"window":[3],"strides":[2],"padding":[1,1],"count-padding":true}"#,
    ),
    case(
        "average-pool-transpose",
        "float",
        "T[2,3,4,6]",
        r#"{"window":[3,2],"strides":[2,1],"padding":[1,1,0,1],"count-padding":false,"spatial":[7,6]}"#,
    ),
    case("softmax", "float", "T[5,11]", r#"{"axis":0}"#),
    case("softmax", "float", "T[5,11]", r#"{"axis":1}"#),
    case("log-softmax", "float", "T[5,11]", r#"{"axis":1}"#),
    case(
        "layer-norm",
        "float",
        "T[3,4,5] T[4,5] T[4,5]",
        r#"{"axis":1,"epsilon":0.001}"#,
    ),
    case(
        "layer-norm-gradient",
        "float",
        "T[3,4] T[4] T[3,4]",
        r#"{"axis":1,"epsilon":0.001}"#,
    )
    .results(3),
    case(
        "rms-norm",
        "float",
        "T[3,4,5] T[4,5]",
        r#"{"axis":1,"epsilon":0.001}"#,
    ),
    case(
        "rms-norm-gradient",
        "float",
        "T[3,4] T[4] T[3,4]",
        r#"{"axis":1,"epsilon":0.001}"#,
    )
    .results(2),
    case(
        "batch-norm",
        "float",
        "T[4,3,5] T[3] T[3]",
        r#"{"epsilon":0.001}"#,
    )
    .results(3),
    case(
        "batch-norm-gradient",
        "float",
        "T[4,3,5] T[3] T[4,3,5]",
        r#"{"epsilon":0.001}"#,
    )
    .results(3),
    case(
        "batch-norm-inference",
        "float",
        "T[4,3,5] T[3] T[3] T[3] T[3]",
        r#"{"epsilon":5.0}"#,
    ),
    case(
        "attention",
        "float",
        "T[2,3,4] T[2,5,4] T[2,5,3]",
        r#"{"scale":0.5,"causal":true}"#,
    )
    .results(2),
    case(
        "attention",
        "float",
        "T[2,3,4] T[2,5,4] T[2,5,3] bool[1,3,5]",
        r#"{"scale":0.5,"causal":false}"#,
    )
    .results(2),
    case(
        "random-bits",
        "f32",
        "u32[2]",
        r#"{"shape":[41,5],"stream":4294967295}"#,
    )
    .edges(),
    case("random-fold", "f32", "u32[2] u32[]", "{}").edges(),
    case(
        "random-uniform",
        "f32",
        "u32[2]",
        r#"{"dtype":"f32","shape":[3,5],"stream":1}"#,
    )
    .edges(),
    case(
        "random-uniform",
        "f32",
        "u32[2]",
        r#"{"dtype":"f64","shape":[3,5],"stream":1}"#,
    ),
    case(
        "random-uniform",
        "f32",
        "u32[2]",
        r#"{"dtype":"bf16","shape":[3,5],"stream":1}"#,
    ),
    case(
        "random-uniform",
        "f32",
        "u32[2]",
        r#"{"dtype":"f16","shape":[3,5],"stream":1}"#,
    ),
    case(
        "random-normal",
        "f32",
        "u32[2]",
        r#"{"dtype":"f32","shape":[3,5],"stream":1}"#,
    ),
    case(
        "random-normal",
        "f32",
        "u32[2]",
        r#"{"dtype":"f64","shape":[3,5],"stream":1}"#,
    ),
    case(
        "random-normal",
        "f32",
        "u32[2]",
        r#"{"dtype":"f16","shape":[],"stream":4294967295}"#,
    ),
    case(
        "random-bernoulli",
        "f32",
        "u32[2]",
        r#"{"probability":0.3,"shape":[99],"stream":1}"#,
    ),
    case(
        "random-permutation",
        "f32",
        "u32[2]",
        r#"{"size":21,"stream":2}"#,
    ),
    case(
        "dropout",
        "float",
        "T[9,5] u32[2]",
        r#"{"rate":0.25,"stream":2}"#,
    ),
];
