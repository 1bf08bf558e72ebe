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

#[test]
fn what_a_loop_takes_from_around_it_becomes_an_invariant() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[5, 2, 3]);
    let weight = graph.state("weight", DType::F32, &[3, 3]);
    let start = graph.full(DType::F32, &[2, 3], 0.0);
    let scanned = graph.scoped("lstm", || {
        graph.scan(5, &[&start], &[&x], true, |carries, slices| {
            let next = (&slices[0] + carries[0].matmul(&weight)) * weight.sum_all();
            (vec![next.clone()], vec![next])
        })
    });
    graph.output(&scanned.carries[0]);
    graph.output(&scanned.stacked[0]);

    expect![[r#"
        body 0
        %0 = input index=0 dtype=f32 shape=[2, 3]  // carry
        %1 = input index=1 dtype=f32 shape=[2, 3]  // slice
        %2 = input index=2 dtype=f32 shape=[3, 3]  // invariant
        %3 = dot-general %0 %2 lhs-batch=[] rhs-batch=[] lhs-contract=[1] rhs-contract=[0]  // lstm
        %4 = add %1 %3  // lstm
        %5 = input index=3 dtype=f32 shape=[2, 3]  // invariant
        %6 = multiply %4 %5  // lstm
        outputs %6 %6
        program
        %0 = input index=0 dtype=f32 shape=[5, 2, 3]  // x
        %1 = state index=0 dtype=f32 shape=[3, 3]  // weight
        %2 = constant dtype=f32 shape=[2, 3] value=0.0
        %3 = reduce-sum %1 axes=[0, 1]  // lstm
        %4 = broadcast %3 shape=[2, 3] axes=[]  // lstm
        %5 = scan %2 %0 %1 %4 body=0 carries=1 sequences=1 length=5 reverse=true  // lstm
        outputs %5 %5.1
    "#]]
    .assert_eq(&listed(&graph.finish().unwrap()));
}

#[test]
fn both_bodies_of_a_while_take_the_same_invariants() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[]);
    let limit = graph.input("limit", DType::F32, &[]);
    let factor = graph.input("factor", DType::F32, &[]);
    let found = graph.while_loop(
        &[&x],
        100,
        |carries| carries[0].less(&limit),
        |carries| vec![&carries[0] * &factor],
    );
    graph.output(&found[0]);

    let program = graph.finish().unwrap();
    let inputs = |body: usize| {
        let instructions = program.bodies[body].instructions.iter();
        instructions.filter(|given| given.op == "input").count()
    };
    assert_eq!((inputs(0), inputs(1)), (3, 3));
    let operands = &program.instructions.last().unwrap().operands;
    let operands: Vec<u32> = operands.iter().map(|value| value.instruction).collect();
    assert_eq!(operands, [0, 1, 2]);
}

#[test]
fn loops_lie_in_loops() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[4, 3]);
    let weight = graph.input("weight", DType::F32, &[]);
    let zero = graph.full(DType::F32, &[], 0.0);
    let sums = graph.scan(4, &[&zero], &[&x], false, |carries, rows| {
        let inner = graph.scan(3, &[&carries[0]], &[&rows[0]], false, |sum, elements| {
            (vec![&sum[0] + &elements[0] * &weight], vec![])
        });
        (inner.carries.clone(), inner.carries)
    });
    graph.output(&sums.stacked[0]);

    let program = graph.finish().unwrap();
    assert_eq!(sums.stacked[0].described(), "f32 [4]");
    assert_eq!(program.bodies.len(), 2);
    let last = program.bodies[1].instructions.last().unwrap();
    assert_eq!((last.op.as_str(), last.operands.len()), ("scan", 3));
}

#[test]
fn a_loop_that_changes_its_carry_is_a_mistake() {
    let graph = Graph::new();
    let x = graph.input("x", DType::F32, &[4, 3]);
    let zero = graph.full(DType::F32, &[], 0.0);
    graph.scan(4, &[&zero], &[&x], false, |_, rows| (rows.to_vec(), vec![]));
    let error = graph.finish().unwrap_err().to_string();
    let expected = "instruction 2: `scan` has the carries f32 [], but a step makes them f32 [3]";
    assert_eq!(error, expected);
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
    let mut text = String::new();
    for (index, body) in program.bodies.iter().enumerate() {
        text.push_str(&format!("body {index}\n"));
        text.push_str(&lines(&body.instructions, &body.outputs));
    }
    if !program.bodies.is_empty() {
        text.push_str("program\n");
    }
    text.push_str(&lines(&program.instructions, &program.outputs));
    for update in &program.updates {
        let (state, value) = (update.state, name(&update.value));
        text.push_str(&format!("state {state} becomes {value}\n"));
    }
    text
}

fn lines(instructions: &[Instruction], outputs: &[Value]) -> String {
    let mut text = String::new();
    for (position, instruction) in instructions.iter().enumerate() {
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
    let outputs: Vec<String> = outputs.iter().map(name).collect();
    text.push_str(&format!("outputs {}\n", outputs.join(" ")));
    text
}

fn name(value: &Value) -> String {
    match value.output {
        0 => format!("%{}", value.instruction),
        output => format!("%{}.{output}", value.instruction),
    }
}
