use expect_test::{Expect, expect};

use super::*;

#[test]
fn ordinary_looking_code_becomes_a_list_of_instructions() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[2, 3]);
    let weight = graph.state("weight", DType::F32, &[4, 3]);
    let bias = graph.state("bias", DType::F32, &[4]);
    let y = graph.scoped("hidden", || {
        graph.scoped("0", || (x.matmul_transposed(&weight) + &bias).relu())
    });
    let loss = (1.0 - y * 0.5).mean_all();
    graph.update(&bias, &(&bias - 0.1 * &bias));
    graph.output(&loss);

    expect![[r#"
        %0 = input index=0 dtype=f32 shape=[2, 3]  // x
        %1 = state index=0 dtype=f32 shape=[4, 3]  // weight
        %2 = state index=1 dtype=f32 shape=[4]  // bias
        %3 = dot-general %0 %1 lhs-batch=[] rhs-batch=[] lhs-contract=[1] rhs-contract=[1]  // hidden.0
        %4 = broadcast %2 shape=[2, 4] axes=[1]  // hidden.0
        %5 = add %3 %4  // hidden.0
        %6 = constant dtype=f32 shape=[2, 4] value=0.0  // hidden.0
        %7 = less-equal %5 %6  // hidden.0
        %8 = select %7 %6 %5  // hidden.0
        %9 = constant dtype=f32 shape=[2, 4] value=0.5
        %10 = multiply %8 %9
        %11 = constant dtype=f32 shape=[2, 4] value=1.0
        %12 = subtract %11 %10
        %13 = reduce-mean %12 axes=[0, 1]
        %14 = constant dtype=f32 shape=[4] value=0.1
        %15 = multiply %14 %2
        %16 = subtract %2 %15
        outputs %13
        state 1 becomes %16
    "#]]
    .assert_eq(&listed(&graph.finish().unwrap()));
}

#[test]
fn every_operation_knows_the_shape_of_its_result() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[2, 3, 4]);
    let indices = graph.input("indices", DType::I32, &[5]);
    let check = |var: Var, expected: &str| assert_eq!(var.described(), expected);

    check(x.sum(&[0, 2]), "f32 [3]");
    check(x.sum_all(), "f32 []");
    check(x.arg_max(1), "i32 [2, 4]");
    check(x.log_softmax(2), "f32 [2, 3, 4]");
    check(x.reshape(&[6, 4]), "f32 [6, 4]");
    check(x.transpose(&[2, 0, 1]), "f32 [4, 2, 3]");
    check(x.take(&indices, 1), "f32 [2, 5, 4]");
    check(x.matmul(&x.transpose(&[0, 2, 1])), "f32 [2, 3, 3]");
    check(x.matmul_transposed(&x), "f32 [2, 3, 3]");
    check(indices.one_hot(7, DType::F32), "f32 [5, 7]");
    check(x.greater(&x.full_like(0.0)), "bool [2, 3, 4]");
    check(&x + x.mean(&[0, 1]), "f32 [2, 3, 4]");
    check(x.convert(DType::U8), "u8 [2, 3, 4]");
    let updates = x.take(&indices, 1);
    check(x.scatter_add(&indices, &updates, 1), "f32 [2, 3, 4]");
    let negative = x.less(&x.full_like(0.0));
    check(negative.select(&-&x, &x.full_like(1.0)), "f32 [2, 3, 4]");
    assert!(graph.finish().is_ok());
}

#[test]
fn the_first_mistake_is_kept_with_its_place() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[2, 3]);
    let weight = graph.state("weight", DType::F32, &[4, 5]);
    let y = graph.scoped("hidden", || x.matmul_transposed(&weight)) + &x;
    graph.output(&y.reshape(&[7]));

    let error = graph.finish().unwrap_err();
    let expected = "`hidden`: `matmul_transposed` of f32 [2, 3] and f32 [4, 5] does not fit";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn mistakes_say_what_does_not_fit() {
    check_mistake(
        |x, _| x.sum(&[2]),
        expect!["instruction 2: `reduce-sum` over axes [2] does not fit the shape [2, 3]"],
    );
    check_mistake(
        |x, _| x.sum(&[1, 0]),
        expect!["instruction 2: `reduce-sum` over axes [1, 0] does not fit the shape [2, 3]"],
    );
    check_mistake(
        |x, i| x + i,
        expect!["instruction 2: `add` takes two of one type, but got f32 [2, 3] and i32 [2, 3]"],
    );
    check_mistake(
        |_, i| i.exp(),
        expect!["instruction 2: `exp` takes floats, but got i32 [2, 3]"],
    );
    check_mistake(
        |_, i| i * 0.5,
        expect!["instruction 2: 0.5 cannot stand beside i32 [2, 3]"],
    );
    check_mistake(
        |x, _| x.reshape(&[4]),
        expect!["instruction 2: a shape of [2, 3] cannot become [4]"],
    );
    check_mistake(
        |x, _| x.transpose(&[0, 0]),
        expect!["instruction 2: the axes of [2, 3] cannot be put into the order [0, 0]"],
    );
    check_mistake(
        |x, _| x.broadcast_to(&[3, 2]),
        expect!["instruction 2: a shape of [2, 3] cannot be repeated to [3, 2]"],
    );
    check_mistake(
        |x, i| i.take(x, 0),
        expect!["instruction 2: `take` takes indices of i32, i64 or u32, but got f32 [2, 3]"],
    );
    check_mistake(
        |x, _| x.select(x, x),
        expect!["instruction 2: `select` takes a bool condition, but got f32 [2, 3]"],
    );
    check_mistake(
        |x, _| x.graph().constant(&[3], &[1.0f32]),
        expect!["instruction 2: a constant of shape [3] cannot have 1 elements"],
    );
    check_mistake(
        |x, _| x + Graph::new().input("y", DType::F32, &[2, 3]),
        expect!["instruction 2: an operand of `add` belongs to another graph"],
    );
}

#[test]
fn only_a_state_can_be_updated_and_only_by_its_like() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[2]);
    graph.update(&x, &x);
    let error = graph.finish().unwrap_err().to_string();
    assert!(error.contains("only a state can be updated"), "{error}");

    let graph = Graph::new();
    let state = graph.state("s", DType::F32, &[2]);
    graph.update(&state, &state.sum_all());
    let error = graph.finish().unwrap_err().to_string();
    let expected = "a state of f32 [2] cannot be replaced by f32 []";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn gradients_are_values_of_the_same_program() {
    fn one_constant_each(
        program: &Program,
        _output: Value,
        variables: &[Value],
    ) -> Result<Program, ProgramError> {
        let mut program = program.clone();
        program.outputs.extend(variables);
        Ok(program)
    }
    let graph = Graph::with_gradient(one_constant_each);
    let x = graph.input("x", DType::F32, &[2]);
    let y = graph.input("y", DType::F32, &[3]);
    graph.output(&x);

    let gradients = graph.gradient(&x.sum_all(), &[&y, &x]);

    assert_eq!(gradients[0].described(), "f32 [3]");
    assert_eq!(gradients[1].described(), "f32 [2]");
    assert_eq!(graph.finish().unwrap().outputs.len(), 1);
}

#[track_caller]
fn check_mistake(record: impl FnOnce(&Var, &Var) -> Var, expected: Expect) {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[2, 3]);
    let integers = graph.input("integers", DType::I32, &[2, 3]);
    record(&x, &integers);
    let error = graph.finish().expect_err("a mistake");
    expected.assert_eq(&error.to_string());
}

/// A program as text, one instruction a line.
fn listed(program: &Program) -> String {
    let name = |value: &Value| format!("%{}", value.instruction);
    let mut text = String::new();
    for (position, instruction) in program.instructions.iter().enumerate() {
        text.push_str(&format!("%{position} = {}", instruction.op));
        for operand in &instruction.operands {
            text.push_str(&format!(" {}", name(operand)));
        }
        for (key, attribute) in &instruction.attributes {
            let value = match attribute {
                Attribute::Integer(number) => number.to_string(),
                Attribute::Integers(numbers) => format!("{numbers:?}"),
                Attribute::Number(number) => format!("{number:?}"),
                Attribute::Text(text) => text.clone(),
                Attribute::Flag(flag) => flag.to_string(),
                Attribute::Bytes(bytes) => format!("{bytes:?}"),
            };
            text.push_str(&format!(" {key}={value}"));
        }
        if let Some(label) = &instruction.label {
            text.push_str(&format!("  // {label}"));
        }
        text.push('\n');
    }
    let outputs: Vec<String> = program.outputs.iter().map(name).collect();
    text.push_str(&format!("outputs {}\n", outputs.join(" ")));
    for update in &program.updates {
        let (state, value) = (update.state, name(&update.value));
        text.push_str(&format!("state {state} becomes {value}\n"));
    }
    text
}
