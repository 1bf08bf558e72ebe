//! Layers: results, gradients and running statistics.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use trainshed_sdk::graph::{Graph, Var};
use trainshed_sdk::nn::{
    Activation, AdaptiveAvgPool2d, AvgPool2d, BatchNorm, Conv, Conv1d, Conv2d, ConvTranspose2d,
    Embedding, Gru, LayerNorm, Linear, Lstm, MaxPool2d, Module, MultiHeadAttention, Purpose,
    Residual, RmsNorm, Scope, Sequential, StateSpec, TransformerEncoder, TransformerEncoderLayer,
};
use trainshed_sdk::{DType, Failure, Tensor};

use crate::arrays::{compare, tensor, tensors};

/// Records the layer, runs it and compares everything with the case.
pub(crate) fn check(case: &Value) -> Result<(), Failure> {
    let trains = case["train"] == true;
    let purpose = if trains {
        Purpose::Train
    } else {
        Purpose::Judge
    };
    let graph = Graph::new();
    let given = [&case["input"], &case["weights"], &case["mask"]];
    let given: Vec<Tensor> = given
        .into_iter()
        .filter(|array| !array.is_null())
        .map(tensor)
        .collect::<Result<_, _>>()?;
    let inputs: Vec<Var> = given
        .iter()
        .map(|tensor| graph.input("input", tensor.dtype(), &tensor.shape()))
        .collect();
    let scope = Scope::new(&graph, purpose, DType::F32);
    let output = apply(&case["layer"], &scope, &inputs[0], inputs.get(2))?;
    let loss = (&output * &inputs[1]).sum_all();

    let (specs, values) = scope.states();
    let named: Vec<(&StateSpec, &Var)> = specs.iter().zip(&values).collect();
    check_names(&specs, &case["state"], trains)?;
    let learnt = |spec: &StateSpec| !case["gradients"][&spec.name].is_null();
    let mut of: Vec<(&str, &Var)> = Vec::new();
    if inputs[0].dtype().is_float() {
        of.push(("the input", &inputs[0]));
    }
    let learning = named.iter().filter(|(spec, _)| learnt(spec));
    of.extend(learning.map(|(spec, value)| (spec.name.as_str(), *value)));
    let variables: Vec<&Var> = of.iter().map(|(_, value)| *value).collect();
    let gradients = graph.gradient(&loss, &variables);
    graph.output(&output);
    for gradient in &gradients {
        graph.output(gradient);
    }

    let state = tensors(&case["state"])?;
    let state: Vec<&Tensor> = specs.iter().map(|spec| &state[&spec.name]).collect();
    let mut fed: Vec<&Tensor> = given.iter().collect();
    if !trains {
        fed.extend(&state);
    }
    let bound: &[&Tensor] = if trains { &state } else { &[] };
    let session = graph.compile()?.bind(bound)?;
    let results = session.run(&fed)?;

    compare("the result", &results[0], &case["output"])?;
    for ((name, _), gradient) in of.iter().zip(&results[1..]) {
        let expected = match *name {
            "the input" => &case["input_gradient"],
            name => &case["gradients"][name],
        };
        compare(&format!("the gradient of {name}"), gradient, expected)?;
    }
    for (index, spec) in (0..).zip(&specs) {
        let expected = &case["after"][&spec.name];
        if !expected.is_null() {
            compare(&spec.name, &session.state(index)?, expected)?;
        }
    }
    Ok(())
}

/// Fails when the layer does not ask for what PyTorch has, under the same names; judging
/// may need less.
fn check_names(specs: &[StateSpec], state: &Value, trains: bool) -> Result<(), Failure> {
    let found: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let expected = state.as_object().into_iter().flatten();
    let expected: BTreeSet<&str> = expected.map(|(name, _)| name.as_str()).collect();
    if found != expected && (trains || !found.is_subset(&expected)) {
        return Err(Failure::failed(format!(
            "it asks for {found:?} instead of {expected:?}"
        )));
    }
    Ok(())
}

fn apply(config: &Value, scope: &Scope, x: &Var, mask: Option<&Var>) -> Result<Var, Failure> {
    let Some(mask) = mask else {
        return Ok(layer(config)?.forward(scope, x));
    };
    let attention = MultiHeadAttention::new(size(config, "size"), size(config, "heads"));
    Ok(attention.attend(scope, x, x, x, Some(mask)))
}

fn layer(config: &Value) -> Result<Box<dyn Module>, Failure> {
    let kind = config["kind"].as_str().unwrap_or_default();
    let number = |name| size(config, name);
    let flag = |name: &str, default: bool| config[name].as_bool().unwrap_or(default);
    Ok(match kind {
        "linear" => Box::new(Linear {
            bias: flag("bias", true),
            ..Linear::new(number("inputs"), number("outputs"))
        }),
        "embedding" => Box::new(Embedding::new(number("count"), number("size"))),
        "sequential" => Box::new(sequential(config)?),
        "named" => {
            let parts: Vec<(String, Value)> = serde_json::from_value(config["parts"].clone())?;
            let mut network = Sequential::new();
            for (name, part) in parts {
                network = network.named(&name, layer(&part)?);
            }
            Box::new(network)
        }
        "residual" => {
            let (name, part): (String, Value) = serde_json::from_value(config["shortcut"].clone())?;
            let residual = Residual::new(layer(&config["part"])?);
            Box::new(residual.with_shortcut(&name, layer(&part)?))
        }
        "conv1d" => Box::new(convolution::<1>(config)?) as Box<Conv1d>,
        "conv2d" => Box::new(convolution::<2>(config)?) as Box<Conv2d>,
        "conv_transpose2d" => Box::new(ConvTranspose2d {
            kernel: pair(config, "kernel", 1)?,
            stride: pair(config, "stride", 1)?,
            padding: pair(config, "padding", 0)?,
            output_padding: pair(config, "output_padding", 0)?,
            groups: number("groups"),
            ..ConvTranspose2d::new(number("inputs"), number("outputs"), 1)
        }),
        "max_pool2d" => {
            let kernel = pair(config, "kernel", 1)?;
            Box::new(MaxPool2d {
                kernel,
                stride: optional(config, "stride")?.unwrap_or(kernel),
                padding: pair(config, "padding", 0)?,
                ..MaxPool2d::new(1)
            })
        }
        "avg_pool2d" => {
            let kernel = pair(config, "kernel", 1)?;
            Box::new(AvgPool2d {
                kernel,
                stride: optional(config, "stride")?.unwrap_or(kernel),
                padding: pair(config, "padding", 0)?,
                count_padding: flag("count_padding", true),
            })
        }
        "adaptive_avg_pool2d" => Box::new(AdaptiveAvgPool2d {
            outputs: pair(config, "outputs", 1)?,
        }),
        "batch_norm" => {
            let mut norm = BatchNorm::new(number("channels"));
            if config.get("momentum").is_some() {
                norm.momentum = config["momentum"].as_f64();
            }
            norm.epsilon = config["epsilon"].as_f64().unwrap_or(norm.epsilon);
            Box::new(norm)
        }
        "layer_norm" => Box::new(LayerNorm {
            bias: flag("bias", true),
            ..LayerNorm::new(&shape(config)?)
        }),
        "rms_norm" => Box::new(RmsNorm {
            epsilon: config["epsilon"].as_f64(),
            ..RmsNorm::new(&shape(config)?)
        }),
        "lstm" => Box::new(Lstm {
            layers: number("layers"),
            bidirectional: flag("bidirectional", false),
            bias: flag("bias", true),
            batch_first: flag("batch_first", false),
            ..Lstm::new(number("inputs"), number("hidden"))
        }),
        "gru" => Box::new(Gru {
            layers: number("layers"),
            bidirectional: flag("bidirectional", false),
            bias: flag("bias", true),
            batch_first: flag("batch_first", false),
            ..Gru::new(number("inputs"), number("hidden"))
        }),
        "attention" => Box::new(MultiHeadAttention {
            causal: flag("causal", false),
            bias: flag("bias", true),
            ..MultiHeadAttention::new(number("size"), number("heads"))
        }),
        "transformer_layer" => Box::new(transformer_layer(config)?),
        "transformer" => Box::new(TransformerEncoder {
            norm: flag("norm", false),
            ..TransformerEncoder::new(transformer_layer(config)?, number("layers"))
        }),
        _ => Box::new(Activation::deserialize(&config["kind"])?),
    })
}

fn sequential(config: &Value) -> Result<Sequential, Failure> {
    let mut network = Sequential::new();
    for part in config["parts"].as_array().into_iter().flatten() {
        network = network.then(layer(part)?);
    }
    Ok(network)
}

fn transformer_layer(config: &Value) -> Result<TransformerEncoderLayer, Failure> {
    let activation = match &config["activation"] {
        Value::Null => Activation::Relu,
        name => Activation::deserialize(name)?,
    };
    Ok(TransformerEncoderLayer {
        feedforward: size(config, "feedforward"),
        activation,
        dropout: 0.0,
        norm_first: config["norm_first"] == true,
        causal: config["causal"] == true,
        ..TransformerEncoderLayer::new(size(config, "size"), size(config, "heads"))
    })
}

fn convolution<const AXES: usize>(config: &Value) -> Result<Conv<AXES>, Failure> {
    Ok(Conv {
        kernel: pair(config, "kernel", 1)?,
        stride: pair(config, "stride", 1)?,
        padding: pair(config, "padding", 0)?,
        dilation: pair(config, "dilation", 1)?,
        groups: size(config, "groups"),
        bias: config["bias"].as_bool().unwrap_or(true),
        ..Conv::new(size(config, "inputs"), size(config, "outputs"), 1)
    })
}

fn size(config: &Value, name: &str) -> usize {
    let number = config[name].as_u64().unwrap_or_default();
    usize::try_from(number).unwrap_or_default()
}

fn shape(config: &Value) -> Result<Vec<usize>, Failure> {
    Ok(serde_json::from_value(config["shape"].clone())?)
}

fn pair<const AXES: usize>(
    config: &Value,
    name: &str,
    default: usize,
) -> Result<[usize; AXES], Failure> {
    Ok(optional(config, name)?.unwrap_or([default; AXES]))
}

fn optional<const AXES: usize>(
    config: &Value,
    name: &str,
) -> Result<Option<[usize; AXES]>, Failure> {
    let sizes: Option<Vec<usize>> = serde_json::from_value(config[name].clone())?;
    let sizes = sizes.map(|sizes| {
        let wrong = |_| Failure::failed(format!("`{name}` must have {AXES} sizes"));
        sizes.try_into().map_err(wrong)
    });
    sizes.transpose()
}
