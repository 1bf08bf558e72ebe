use super::*;

#[test]
fn parameters_are_named_by_where_they_stand() {
    let network = Mlp {
        inputs: 64,
        hidden: vec![32, 16],
        outputs: 10,
        activation: Activation::Relu,
        dropout: 0.0,
    };
    let expected = [
        ("hidden.0.weight", vec![32, 64]),
        ("hidden.0.bias", vec![32]),
        ("hidden.1.weight", vec![16, 32]),
        ("hidden.1.bias", vec![16]),
        ("output.weight", vec![10, 16]),
        ("output.bias", vec![10]),
    ];
    check_parameters(&network, &[8, 64], &expected);

    let sequence = Sequential::new()
        .then(Linear::new(3, 2))
        .then(Activation::Gelu)
        .then(Linear::new(2, 1));
    let expected = [
        ("0.weight", vec![2, 3]),
        ("0.bias", vec![2]),
        ("2.weight", vec![1, 2]),
        ("2.bias", vec![1]),
    ];
    check_parameters(&sequence, &[8, 3], &expected);
}

#[test]
fn a_parameter_that_is_asked_for_twice_is_shared() {
    struct Tied;
    impl Module for Tied {
        fn forward(&self, scope: &Scope, x: &Var) -> Var {
            let initial = Initial::Constant(0.0);
            let first = scope.parameter("weight", &[3, 3], initial);
            let second = scope.parameter("weight", &[3, 3], initial);
            x.matmul(&first).matmul(&second)
        }
    }
    check_parameters(&Tied, &[2, 3], &[("weight", vec![3, 3])]);
}

#[test]
fn a_mistake_in_a_layer_names_the_layer() {
    let graph = Graph::new();
    let scope = Scope::new(&graph, Purpose::Train, DType::F32);
    let x = graph.input("x", DType::F32, &[8, 63]);
    let network = Mlp {
        inputs: 64,
        hidden: vec![32],
        outputs: 10,
        activation: Activation::Tanh,
        dropout: 0.0,
    };
    network.forward(&scope, &x);

    let error = graph.finish().unwrap_err().to_string();
    let expected = "`hidden.0`: `matmul_transposed` of f32 [8, 63] and f32 [32, 64] does not fit";
    assert_eq!(error, expected);
}

#[test]
fn layers_start_within_one_over_the_root_of_their_inputs() {
    let initial = Initial::of_layer(64);
    assert_eq!(initial, Initial::Uniform { bound: 0.125 });
    let elements = initial.elements(1000, &mut Rng::new(1, "weight"));
    assert!(elements.iter().all(|number| number.abs() <= 0.125));
    assert!(elements.iter().any(|number| number.abs() > 0.12));
}

#[test]
fn labels_may_be_a_column() {
    let graph = Graph::new();
    let scope = Scope::new(&graph, Purpose::Train, DType::F32);
    let x = graph.input("x", DType::F32, &[8, 4]);
    let labels = graph.input("labels", DType::I64, &[8, 1]);
    let layer = Linear::new(4, 3);

    let measured = classification(&layer, &scope, &x, &labels);

    assert_eq!(measured.loss.shape().len(), 0);
    assert_eq!(measured.prediction.shape(), [8]);
    assert_eq!(measured.correct.unwrap().shape().len(), 0);
    assert!(graph.finish().is_ok());
}

#[track_caller]
fn check_parameters(module: &dyn Module, x: &[usize], expected: &[(&str, Vec<usize>)]) {
    let graph = Graph::new();
    let scope = Scope::new(&graph, Purpose::Train, DType::F32);
    let x = graph.input("x", DType::F32, x);
    module.forward(&scope, &x);

    graph.finish().expect("no mistake");
    let (specs, _) = scope.states();
    let found: Vec<(&str, Vec<usize>)> = specs
        .iter()
        .map(|spec| (spec.name.as_str(), spec.shape.clone()))
        .collect();
    assert_eq!(found, expected);
}
