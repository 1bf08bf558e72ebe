use super::*;
use crate::DType;
use crate::compute::{Program, Value};
use crate::nn::{Activation, Adam, AdamW, Mlp, RmsProp, Sgd, classification};

#[test]
fn a_training_step_updates_everything_and_returns_nothing() {
    let step = recorded(Adam::default());

    let names: Vec<&str> = step
        .saved
        .iter()
        .map(|saved| saved.spec.name.as_str())
        .collect();
    let expected = [
        "hidden.0.weight",
        "hidden.0.bias",
        "output.weight",
        "output.bias",
        "optimizer.step",
        "optimizer.exp_avg.hidden.0.weight",
        "optimizer.exp_avg_sq.hidden.0.weight",
        "optimizer.exp_avg.hidden.0.bias",
        "optimizer.exp_avg_sq.hidden.0.bias",
        "optimizer.exp_avg.output.weight",
        "optimizer.exp_avg_sq.output.weight",
        "optimizer.exp_avg.output.bias",
        "optimizer.exp_avg_sq.output.bias",
    ];
    assert_eq!(names, expected);
    assert!(step.program.outputs.is_empty());
    let mut updated: Vec<u32> = step.program.updates.iter().map(|u| u.state).collect();
    updated.sort_unstable();
    assert_eq!(updated, (0..15).collect::<Vec<u32>>());
    assert_eq!((step.loss_sum(), step.correct_sum()), (13, 14));
}

#[test]
fn each_optimizer_keeps_only_the_state_it_needs() {
    const PARAMETERS: usize = 4;
    fn kept(recipe: impl Into<Recipe>) -> usize {
        (recorded(recipe).saved.len() - PARAMETERS - 1) / PARAMETERS
    }
    let momentum = Sgd {
        momentum: 0.9,
        nesterov: true,
        weight_decay: 1e-4,
    };
    assert_eq!(kept(Sgd::default()), 0);
    assert_eq!(kept(momentum), 1);
    assert_eq!(kept(RmsProp::default()), 1);
    assert_eq!(kept(AdamW::default()), 2);
}

#[test]
fn judging_takes_the_parameters_as_inputs() {
    let step = JudgingStep::record(&Graph::new(), &columns(), 5, &model, DType::F32).unwrap();

    let count = |op: &str| {
        let instructions = step.program.instructions.iter();
        instructions
            .filter(|instruction| instruction.op == op)
            .count()
    };
    assert_eq!((count("input"), count("state")), (2 + 4, 2));
    assert_eq!(step.program.outputs.len(), 1);
}

#[test]
fn a_mistake_in_the_model_is_answered_when_it_is_recorded() {
    let wide = [
        Column {
            dtype: DType::F32,
            shape: vec![7],
        },
        columns()[1].clone(),
    ];
    let graph = Graph::with_gradient(themselves);
    let error = TrainingStep::record(&graph, &wide, 5, &model, &Sgd::default().into()).unwrap_err();
    assert!(error.to_string().starts_with("`hidden.0`: "), "{error}");
}

#[test]
fn more_right_rows_are_better_and_then_a_smaller_loss() {
    check(of(0.9, Some(0.8)), of(0.1, Some(0.7)));
    check(of(0.1, Some(0.7)), of(0.2, Some(0.7)));
    check(of(0.5, None), of(0.6, None));
    check(of(f64::INFINITY, None), of(f64::NAN, None));
    check(of(0.5, Some(0.5)), of(f64::NAN, Some(f64::NAN)));
    assert!(!of(0.5, None).is_better_than(&of(0.5, None)));

    fn of(loss: f64, accuracy: Option<f64>) -> Summary {
        Summary {
            loss,
            accuracy,
            rows: 1,
        }
    }

    #[track_caller]
    fn check(better: Summary, worse: Summary) {
        assert!(better.is_better_than(&worse));
        assert!(!worse.is_better_than(&better));
    }
}

fn recorded(recipe: impl Into<Recipe>) -> TrainingStep {
    let graph = Graph::with_gradient(themselves);
    TrainingStep::record(&graph, &columns(), 32, &model, &recipe.into()).unwrap()
}

fn columns() -> [Column; 2] {
    let column = |dtype, size| Column {
        dtype,
        shape: vec![size],
    };
    [column(DType::F32, 6), column(DType::I32, 1)]
}

fn model(scope: &Scope, batch: &[Var]) -> Measured {
    let network = Mlp {
        inputs: 6,
        hidden: vec![4],
        outputs: 3,
        activation: Activation::Relu,
        dropout: 0.0,
    };
    classification(&network, scope, &batch[0], &batch[1])
}

/// Stands for the host: every variable is its own gradient.
fn themselves(
    program: &Program,
    _output: Value,
    variables: &[Value],
) -> Result<Program, ProgramError> {
    let mut program = program.clone();
    program.outputs.extend(variables);
    Ok(program)
}
