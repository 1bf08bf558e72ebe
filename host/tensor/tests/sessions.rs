//! State, memory accounts, stopping, and batches.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Build, budget, context, f32s, floats, i32s, ints, list};
use trainshed_tensor::{
    Batches, Budget, Context, DType, Executable, Program, ProgramError, Session, Tensor,
};

/// `state 0 -= 0.5 * input 0`; returns the sum of the old state.
fn descent(size: usize) -> Program {
    let mut program = Program::default();
    let x = program.source("state", 0, DType::F32, &[size]);
    let slope = program.source("input", 0, DType::F32, &[size]);
    let rate = program.number(0.5, &[size as i64]);
    let step = program.op("multiply", &[slope, rate]);
    let next = program.op("subtract", &[x, step]);
    let sum = program.push("reduce-sum", &[x], &[("axes", list(&[0]))]);
    program.update(0, next);
    program.output(sum);
    program
}

fn bind(program: &Program, state: Vec<Tensor>, context: &Context) -> Session {
    let executable = Executable::compile(program, context.budget()).unwrap();
    executable.bind(state, context).unwrap()
}

#[test]
fn an_update_sees_the_state_as_it_was_before_the_run() {
    let mut session = bind(&descent(2), vec![f32s(&[2], &[1.0, 2.0])], &context());
    let slope = f32s(&[2], &[2.0, 2.0]);
    assert_eq!(
        session.run(std::slice::from_ref(&slope)).unwrap()[0].item(),
        3.0
    );
    assert_eq!(session.run(&[slope]).unwrap()[0].item(), 1.0);
    assert_eq!(floats(&session.state(0).unwrap()), [-1.0, 0.0]);
}

#[test]
fn a_state_that_nobody_else_holds_is_updated_in_place() {
    let context = context();
    let state = Tensor::zeros(DType::F32, &[1000], context.budget()).unwrap();
    let mut session = bind(&descent(1000), vec![state], &context);
    let slope = Tensor::zeros(DType::F32, &[1000], &budget()).unwrap();
    let address = session.state(0).unwrap().bytes().as_ptr();
    session.run(&[slope]).unwrap();
    assert_eq!(session.state(0).unwrap().bytes().as_ptr(), address);
    // The state, and one scalar output at a time.
    assert!(
        context.budget().peak() <= 4000 + 64,
        "{}",
        context.budget().peak()
    );
}

#[test]
fn a_state_that_is_held_elsewhere_is_left_alone() {
    let start = f32s(&[2], &[1.0, 2.0]);
    let mut session = bind(&descent(2), vec![start.clone()], &context());
    session.run(&[f32s(&[2], &[2.0, 2.0])]).unwrap();
    let between = session.state(0).unwrap();
    session.run(&[f32s(&[2], &[2.0, 2.0])]).unwrap();
    assert_eq!(floats(&start), [1.0, 2.0]);
    assert_eq!(floats(&between), [0.0, 1.0]);
    assert_eq!(floats(&session.state(0).unwrap()), [-1.0, 0.0]);
}

#[test]
fn the_state_may_be_an_input_of_the_same_run() {
    let mut session = bind(&descent(2), vec![f32s(&[2], &[1.0, 2.0])], &context());
    let state = session.state(0).unwrap();
    session.run(&[state]).unwrap();
    assert_eq!(floats(&session.state(0).unwrap()), [0.5, 1.0]);
}

#[test]
fn states_can_be_exchanged_and_returned() {
    let mut program = Program::default();
    let a = program.source("state", 0, DType::F32, &[2]);
    let b = program.source("state", 1, DType::F32, &[2]);
    program.update(0, b);
    program.update(1, a);
    program.output(a);
    let state = vec![f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[3.0, 4.0])];
    let mut session = bind(&program, state, &context());
    let old = session.run::<Tensor>(&[]).unwrap().remove(0);
    assert_eq!(floats(&old), [1.0, 2.0]);
    assert_eq!(floats(&session.state(0).unwrap()), [3.0, 4.0]);
    assert_eq!(floats(&session.state(1).unwrap()), [1.0, 2.0]);
}

#[test]
fn updates_that_read_each_other_see_the_old_states() {
    // a' = a + b, b' = a - b, and a third state takes b' through a transpose.
    let mut program = Program::default();
    let [a, b, c] = [0, 1, 2].map(|index| program.source("state", index, DType::F32, &[2, 2]));
    let sum = program.op("add", &[a, b]);
    let difference = program.op("subtract", &[a, b]);
    let turned = program.push("transpose", &[b], &[("permutation", list(&[1, 0]))]);
    let third = program.op("add", &[c, turned]);
    for (state, value) in [sum, difference, third].into_iter().enumerate() {
        program.update(state as u32, value);
    }
    let state = vec![
        f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        f32s(&[2, 2], &[10.0, 20.0, 30.0, 40.0]),
        f32s(&[2, 2], &[0.0; 4]),
    ];
    let mut session = bind(&program, state, &context());
    session.run::<Tensor>(&[]).unwrap();
    session.run::<Tensor>(&[]).unwrap();
    assert_eq!(floats(&session.state(0).unwrap()), [2.0, 4.0, 6.0, 8.0]);
    assert_eq!(floats(&session.state(1).unwrap()), [20.0, 40.0, 60.0, 80.0]);
    assert_eq!(
        floats(&session.state(2).unwrap()),
        [1.0, 3.0, 2.0, 4.0]
            .iter()
            .zip([10.0, 30.0, 20.0, 40.0])
            .map(|(first, second)| second + first - second)
            .collect::<Vec<f32>>()
    );
}

#[test]
fn a_counter_that_other_values_need_is_updated() {
    let mut program = Program::default();
    let count = program.source("state", 0, DType::F32, &[]);
    let one = program.number(1.0, &[]);
    let next = program.op("add", &[count, one]);
    let attributes = [("shape", list(&[3])), ("axes", list(&[]))];
    let wide = program.push("broadcast", &[next], &attributes);
    program.update(0, next);
    program.output(wide);
    program.output(next);
    let mut session = bind(&program, vec![f32s(&[], &[0.0])], &context());
    for step in [1.0, 2.0] {
        let outputs = session.run::<Tensor>(&[]).unwrap();
        assert_eq!(floats(&outputs[0]), [step; 3]);
        assert_eq!(outputs[1].item(), f64::from(step));
    }
    assert_eq!(session.state(0).unwrap().item(), 2.0);
}

#[test]
fn arguments_must_be_as_declared() {
    let context = context();
    let executable = Executable::compile(&descent(2), context.budget()).unwrap();
    let message = |result: Result<Session, ProgramError>| match result {
        Err(ProgramError::Argument(message)) => message,
        _ => panic!("the state should be refused"),
    };
    assert_eq!(
        message(executable.bind(vec![], &context)),
        "the program takes 1 state tensors, but 0 were given"
    );
    assert_eq!(
        message(executable.bind(vec![f32s(&[3], &[0.0; 3])], &context)),
        "state 0 is f32[3], but the program takes f32[2]"
    );
    let mut session = executable
        .bind(vec![f32s(&[2], &[0.0; 2])], &context)
        .unwrap();
    assert_eq!(
        session.run(&[i32s(&[2], &[0, 0])]).unwrap_err().to_string(),
        "input 0 is i32[2], but the program takes f32[2]"
    );
    assert_eq!(
        session.state(1).unwrap_err().to_string(),
        "state 1 is wanted, but the program has 1 state tensors"
    );
}

#[test]
fn a_stopped_run_leaves_the_state_as_it_was() {
    let stop = Arc::new(AtomicBool::new(false));
    let context = Context::new(budget(), 1, Arc::clone(&stop)).unwrap();
    let mut session = bind(&descent(2), vec![f32s(&[2], &[1.0, 2.0])], &context);
    stop.store(true, Ordering::Relaxed);
    let result = session.run(&[f32s(&[2], &[2.0, 2.0])]);
    assert_eq!(result.unwrap_err(), ProgramError::Stopped);
    assert_eq!(floats(&session.state(0).unwrap()), [1.0, 2.0]);
}

#[test]
fn a_run_without_memory_leaves_the_state_as_it_was() {
    let context = Context::new(Budget::new(4100), 1, Arc::default()).unwrap();
    let start = Tensor::zeros(DType::F32, &[1000], context.budget()).unwrap();
    // `start` is held here, so the run needs a second copy.
    let mut session = bind(&descent(1000), vec![start.clone()], &context);
    let ones = f32s(&[1000], &[1.0; 1000]);
    let result = session.run(std::slice::from_ref(&ones));
    assert!(matches!(
        result,
        Err(ProgramError::OutOfMemory { allowed: 4100, .. })
    ));
    assert_eq!(floats(&session.state(0).unwrap()), [0.0; 1000]);
    drop(start);
    session.run(&[ones]).unwrap();
    assert_eq!(floats(&session.state(0).unwrap()), [-0.5; 1000]);
}

#[test]
fn memory_is_charged_while_it_is_held() {
    let account = Budget::new(1000);
    let tensor = Tensor::zeros(DType::F32, &[200], &account).unwrap();
    let twin = tensor.clone();
    assert_eq!((account.used(), account.limit()), (800, 1000));
    let error = Tensor::zeros(DType::U8, &[201], &account).unwrap_err();
    let expected = ProgramError::OutOfMemory {
        needed: 1001,
        allowed: 1000,
    };
    assert_eq!(error, expected);
    drop(tensor);
    assert_eq!(account.used(), 800);
    drop(twin);
    assert_eq!((account.used(), account.peak()), (0, 800));
}

#[test]
fn a_session_allocates_what_the_plan_says() {
    let mut program = descent(100);
    let x = program.outputs[0];
    let wide = program.push(
        "broadcast",
        &[x],
        &[("shape", list(&[50])), ("axes", list(&[]))],
    );
    let soft = program.push("softmax", &[wide], &[("axis", 0.into())]);
    program.output(soft);
    let account = Budget::new(1 << 20);
    let context = Context::new(account.clone(), 1, Arc::default()).unwrap();
    let executable = Executable::compile(&program, &account).unwrap();
    let plan = executable.plan();
    let state = Tensor::zeros(DType::F32, &[100], &account).unwrap();
    assert_eq!(plan.state_bytes, account.used());
    let mut session = executable.bind(vec![state], &context).unwrap();
    assert_eq!(plan.state_bytes + plan.workspace_bytes, account.used());
    let _outputs = session.run(&[f32s(&[100], &[0.0; 100])]).unwrap();
    assert_eq!(
        plan.state_bytes + plan.workspace_bytes + plan.output_bytes,
        account.used()
    );
}

#[test]
fn batches_hold_rows_of_every_element_type() {
    let budget = Budget::new(1 << 20);
    for dtype in DType::ALL {
        // Three images of 2 x 2 pixels: bytes that tell them apart and are flags too.
        let image = |flag: u8| vec![flag; 4 * dtype.size()];
        let bytes = [image(0), image(1), image(0)].concat();
        let images = Tensor::from_bytes(dtype, &[3, 2, 2, 1], &bytes, &budget).unwrap();
        let mut batches = Batches::new(vec![images], vec![1, 2], 2, true, &context()).unwrap();
        let batch = batches.next().unwrap().unwrap();
        assert_eq!(
            (batch[0].dtype(), batch[0].shape()),
            (dtype, &[2, 2, 2, 1][..])
        );
        assert_eq!(batch[0].bytes(), [image(1), image(0)].concat(), "{dtype}");
    }
}

#[test]
fn batches_take_rows_in_the_given_order() {
    let pixels = f32s(&[3, 2], &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    let labels = i32s(&[3], &[10, 11, 12]);
    let order = vec![2, 0, 2, 1, 1];
    let mut batches =
        Batches::new(vec![pixels, labels], order.clone(), 2, false, &context()).unwrap();
    let mut rows = Vec::new();
    let mut sizes = Vec::new();
    for left in [3, 2, 1] {
        assert_eq!(batches.remaining(), left);
        let batch = batches.next().unwrap().unwrap();
        sizes.push(batch[0].shape().to_vec());
        rows.extend(floats(&batch[0]).chunks(2).map(|row| row[0] as i32));
        rows.extend(ints(&batch[1]));
    }
    assert_eq!(sizes, [[2, 2], [2, 2], [1, 2]]);
    assert_eq!(rows, [2, 0, 12, 10, 2, 1, 12, 11, 1, 11]);
    assert!(batches.next().unwrap().is_none());

    let labels = i32s(&[3], &[10, 11, 12]);
    let mut whole = Batches::new(vec![labels], order, 2, true, &context()).unwrap();
    assert_eq!(whole.remaining(), 2);
    while whole.next().unwrap().is_some() {}
    assert_eq!(whole.remaining(), 0);
}

#[test]
fn batches_say_what_does_not_fit() {
    let column = || f32s(&[3, 0], &[]);
    let make = |columns: Vec<Tensor>, order: Vec<u32>, size: u32| match Batches::new(
        columns,
        order,
        size,
        false,
        &context(),
    ) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the batches should be refused"),
    };
    assert_eq!(
        make(vec![column()], vec![0, 3], 1),
        "row 3 is in the order, but the columns have 3 rows"
    );
    assert_eq!(
        make(vec![column()], vec![], 0),
        "a batch must have at least 1 row, but `size` is 0"
    );
    assert_eq!(
        make(vec![], vec![], 1),
        "batches are made of at least one column, but none was given"
    );
    assert_eq!(
        make(vec![f32s(&[], &[1.0])], vec![], 1),
        "column 0 is a scalar, but it must have rows"
    );
    assert_eq!(
        make(vec![column(), f32s(&[2], &[1.0, 2.0])], vec![], 1),
        "column 1 has 2 rows, but column 0 has 3"
    );
    let mut empty_rows = Batches::new(vec![column()], vec![1, 1], 2, false, &context()).unwrap();
    assert_eq!(empty_rows.next().unwrap().unwrap()[0].shape(), [2, 0]);
}

#[test]
fn large_batches_are_the_same_when_they_are_gathered_ahead() {
    let rows = 64;
    let row = 20_000;
    let values: Vec<f32> = (0..rows * row).map(|value| value as f32).collect();
    let column = f32s(&[rows, row], &values);
    let order: Vec<u32> = (0..64).map(|place| (place * 37) % 64).collect();
    let gathered = |threads: usize| {
        let context = support::threads(threads);
        let columns = vec![column.clone()];
        let mut batches = Batches::new(columns, order.clone(), 10, false, &context).unwrap();
        let mut bits = Vec::new();
        while let Some(batch) = batches.next().unwrap() {
            bits.push((batch[0].shape().to_vec(), batch[0].bytes().to_vec()));
        }
        drop(batches);
        assert_eq!(context.budget().used(), 0);
        bits
    };
    let alone = gathered(1);
    assert_eq!(alone.len(), 7);
    assert!(alone == gathered(3));
}

#[test]
fn what_is_gathered_ahead_is_charged_at_once_and_given_back() {
    let column = f32s(&[4, 100_000], &vec![0.5; 400_000]);
    let batch_bytes = 2 * 100_000 * 4;
    let context = support::threads(2);
    let make = || {
        let order = vec![3, 2, 1, 0, 3, 2];
        Batches::new(vec![column.clone()], order, 2, false, &context).unwrap()
    };
    let mut batches = make();
    let before = context.budget().used();
    let first = batches.next().unwrap().unwrap();
    assert_eq!(context.budget().used(), before + 2 * batch_bytes);
    drop((first, batches));
    assert_eq!(context.budget().used(), 0);

    // Where memory is short, batches come one by one.
    let small = Context::new(Budget::new(2 * batch_bytes), 2, Arc::default()).unwrap();
    let order = vec![3, 2, 1, 0, 3, 2];
    let mut batches = Batches::new(vec![column.clone()], order, 2, false, &small).unwrap();
    for _ in 0..3 {
        assert!(batches.next().unwrap().is_some());
    }
}

#[test]
fn a_stopped_task_gathers_no_more() {
    let column = f32s(&[4, 2_000_000], &vec![0.5; 8_000_000]);
    for threads in [1, 2] {
        let stop = Arc::new(AtomicBool::new(false));
        let context = Context::new(budget(), threads, Arc::clone(&stop)).unwrap();
        let columns = vec![column.clone()];
        let mut batches = Batches::new(columns, vec![0, 1, 2, 3], 2, false, &context).unwrap();
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(batches.next(), Err(ProgramError::Stopped)));
        drop(batches);
        assert_eq!(context.budget().used(), 0);
    }
}

#[test]
fn sessions_can_move_between_threads() {
    fn check<T: Send>() {}
    check::<Session>();
    check::<Batches>();
    check::<Context>();
    check::<Tensor>();
}
