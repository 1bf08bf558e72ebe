//! Consoles, samples and plots, whichever database they are on.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[macro_use]
#[expect(dead_code, reason = "it is shared, and not all is needed here")]
mod lab;

use expect_test::expect;
use trainshed_core::query::Pattern;
use trainshed_core::report::{Level, Line, LineSource, Plot, Purpose, Real, Report, Sample};
use trainshed_core::task::Verb;
use trainshed_core::view::{ConsolePage, ProjectEdit, Retention};
use trainshed_core::{Digest, TaskId, Timestamp};
use trainshed_store::{ConsoleQuery, LeaseError, Move, ProgramReports, ReportError, ShownQuery};

use lab::{Lab, NOW, completed, draft, loss, point};

store_contract! {
    a_long_console_is_read_from_either_end,
    lines_that_trickle_in_share_chunks,
    lines_are_found_by_text_and_by_level,
    of_two_plots_of_an_iteration_the_later_holds_and_the_last_iterations_are_kept,
    media_are_kept_for_the_last_iterations_and_visualizations_for_ever,
    plots_and_samples_come_in_pages_and_by_iteration,
    a_sample_may_be_a_link_and_a_file_may_take_its_place,
    a_program_reports_without_a_lease_and_once_for_a_key,
    points_are_deleted_when_their_project_says_so_and_summaries_stay,
    what_a_project_keeps_holds_for_those_below_it,
}

fn said(source: LineSource, text: &str) -> Report {
    Report::Line(Line {
        source,
        text: text.to_owned(),
        at: NOW,
    })
}

fn plot(series: &str, iteration: u64, figure: &str) -> Report {
    Report::Plot(Plot {
        title: "confusion".into(),
        series: series.into(),
        iteration,
        figure: figure.to_owned(),
        at: NOW,
    })
}

fn sample(kind: Purpose, index: u64, name: &str, content: &[u8]) -> Report {
    Report::Sample(Sample {
        purpose: kind,
        category: "wrong".into(),
        group: "validation".into(),
        index,
        name: name.into(),
        sha256: Some(Digest::of(content)),
        uri: None,
        size_bytes: content.len() as u64,
        content_type: "image/png".into(),
        at: NOW,
        extra: None,
    })
}

fn numbers(page: &ConsolePage) -> String {
    let numbers = page.lines.iter().map(|line| line.number.to_string());
    let next = page.next.map_or("end".to_owned(), |next| next.to_string());
    format!("{} → {next}", numbers.collect::<Vec<_>>().join(" "))
}

impl Lab {
    async fn read_console(&self, task: &TaskId, query: ConsoleQuery) -> ConsolePage {
        let page = self.store.console(&self.workspace, task, &query).await;
        page.unwrap()
    }

    async fn shown(&self, task: &TaskId, query: &ShownQuery) -> (Vec<String>, Vec<String>) {
        let query = ShownQuery {
            limit: query.limit.max(1),
            ..query.clone()
        };
        let plots = self.store.plots(&self.workspace, task, &query, false).await;
        let plots = plots.unwrap().items.into_iter();
        let samples = self.store.samples_by(&self.workspace, task, &query).await;
        let samples = samples.unwrap().items.into_iter();
        (
            plots
                .map(|plot| format!("{} {}", plot.series, plot.iteration))
                .collect(),
            samples
                .map(|sample| {
                    format!(
                        "{} {}{}",
                        sample.purpose.as_str(),
                        sample.index,
                        sample.name
                    )
                })
                .collect(),
        )
    }

    async fn keep(&self, retention: Retention) {
        let project = self.store.project_at(&self.workspace, "default").await;
        let edit = ProjectEdit {
            retention: Some(retention),
            ..ProjectEdit::default()
        };
        let id = project.unwrap().unwrap().id;
        let edited = self
            .store
            .edit_project(&self.workspace, &id, &edit, None, NOW);
        assert_eq!(edited.await.unwrap().retention, retention);
    }
}

fn all() -> ShownQuery {
    ShownQuery {
        limit: 1000,
        ..ShownQuery::default()
    }
}

async fn a_long_console_is_read_from_either_end(lab: Lab) {
    let running = lab.run("task").await;
    let lines = |from: u64, to: u64| {
        (from..to)
            .map(|number| said(LineSource::Stdout, &format!("line {number}")))
            .collect()
    };
    lab.report(&running, 0, lines(0, 3000)).await;
    lab.report(&running, 1, lines(3000, 5000)).await;
    let task = &running.task;
    let page = lab.read_console(task, ConsoleQuery::from(2999, 3)).await;
    assert_eq!(numbers(&page), "2999 3000 3001 → 3002");
    assert_eq!(page.lines[1].text, "line 3000");
    let page = lab.read_console(task, ConsoleQuery::last(3)).await;
    assert_eq!(numbers(&page), "4999 4998 4997 → 4997");
    let before = ConsoleQuery {
        from: Some(2),
        ..ConsoleQuery::last(9)
    };
    assert_eq!(numbers(&lab.read_console(task, before).await), "1 0 → end");
    let (mut query, mut seen) = (ConsoleQuery::last(700), Vec::new());
    loop {
        let page = lab.read_console(task, query.clone()).await;
        seen.extend(page.lines.into_iter().map(|line| line.number));
        query.from = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..5000).rev().collect::<Vec<u64>>());
}

async fn lines_that_trickle_in_share_chunks(lab: Lab) {
    let running = lab.run("task").await;
    for number in 0..40 {
        let text = format!("line {number}");
        lab.report(&running, number, vec![said(LineSource::Info, &text)])
            .await;
    }
    let page = lab
        .read_console(&running.task, ConsoleQuery::from(0, 100))
        .await;
    let texts: Vec<String> = page.lines.into_iter().map(|line| line.text).collect();
    let expected: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
    assert_eq!(texts, expected);
    assert_eq!(page.total, 40);
}

async fn lines_are_found_by_text_and_by_level(lab: Lab) {
    let running = lab.run("task").await;
    let mut reports = Vec::new();
    for number in 0..4000_u64 {
        let source = match number {
            5 | 3999 => LineSource::Error,
            1000 => LineSource::Warning,
            2000 => LineSource::Stderr,
            _ => LineSource::Stdout,
        };
        reports.push(said(source, &format!("epoch {number}: loss=0.{number}")));
    }
    lab.report(&running, 0, reports).await;
    let task = &running.task;
    let find = |search: Option<Pattern>, level, backward| ConsoleQuery {
        backward,
        from: None,
        limit: 4,
        level,
        search,
    };
    let mut seen = Vec::new();
    for query in [
        find(None, Level::Error, false),
        find(None, Level::Warning, true),
        find(
            Some(Pattern::lenient("^epoch [0-9]*99:")),
            Level::Debug,
            false,
        ),
        find(
            Some(Pattern::lenient("epoch 39[0-9]{2}:")),
            Level::Debug,
            true,
        ),
        find(Some(Pattern::lenient("loss=0.5$")), Level::Error, true),
        find(Some(Pattern::lenient("(")), Level::Debug, false),
    ] {
        seen.push(numbers(&lab.read_console(task, query).await));
    }
    expect![[r#"
        5 3999 → end
        3999 2000 1000 5 → 5
        99 199 299 399 → 400
        3999 3998 3997 3996 → 3996
        5 → end
         → end"#]]
    .assert_eq(&seen.join("\n"));
}

async fn of_two_plots_of_an_iteration_the_later_holds_and_the_last_iterations_are_kept(lab: Lab) {
    let running = lab.run("task").await;
    let retention = Retention {
        plots: Some(2),
        ..Retention::default()
    };
    lab.keep(retention).await;
    let first = r#"{ "data": [], "layout": {"title": "é"} }"#;
    lab.report(
        &running,
        0,
        vec![plot("a", 1, "{}"), plot("a", 1, first), plot("b", 9, first)],
    )
    .await;
    let task = &running.task;
    let names = ("confusion", "a");
    let found = lab.store.plot(&lab.workspace, task, names, None).await;
    let found = found.unwrap().unwrap();
    assert_eq!((found.iteration, found.figure.as_deref()), (1, Some(first)));
    for iteration in [5, 3, 2] {
        lab.report(&running, 10 + iteration, vec![plot("a", iteration, "{}")])
            .await;
    }
    assert_eq!(lab.shown(task, &all()).await.0, ["a 3", "a 5", "b 9"]);
    let gone = lab.store.plot(&lab.workspace, task, names, Some(1)).await;
    assert_eq!(gone.unwrap(), None);
    let view = lab.store.task(&lab.workspace, task).await.unwrap();
    assert_eq!(view.unwrap().last_iteration, 9);
}

async fn media_are_kept_for_the_last_iterations_and_visualizations_for_ever(lab: Lab) {
    let running = lab.run("task").await;
    let retention = Retention {
        samples: Some(2),
        ..Retention::default()
    };
    lab.keep(retention).await;
    lab.put(b"png").await;
    let mut reports = Vec::new();
    for index in 0..4 {
        reports.push(sample(Purpose::Media, index, "", b"png"));
        reports.push(sample(Purpose::Media, index, "x", b"png"));
        reports.push(sample(Purpose::Visualization, index, "", b"png"));
    }
    lab.report(&running, 0, reports).await;
    let (_, samples) = lab.shown(&running.task, &all()).await;
    expect![
        "visualization 0, visualization 1, media 2, media 2x, visualization 2, media 3, media 3x, visualization 3"
    ]
    .assert_eq(&samples.join(", "));
    let missing = sample(Purpose::Media, 9, "", b"never uploaded");
    let refused = lab.try_report(&running, 1, vec![missing]).await;
    assert!(matches!(refused, Err(LeaseError::MissingFile { .. })));
}

async fn plots_and_samples_come_in_pages_and_by_iteration(lab: Lab) {
    let running = lab.run("task").await;
    lab.put(b"png").await;
    let mut reports = Vec::new();
    for iteration in 0..5 {
        reports.push(plot("a", iteration, "{}"));
        reports.push(plot("b", iteration * 10, "{}"));
        reports.push(sample(Purpose::Media, iteration, "", b"png"));
    }
    lab.report(&running, 0, reports).await;
    let task = &running.task;
    let last = ShownQuery {
        last: Some(2),
        ..all()
    };
    let shown = lab.shown(task, &last).await;
    assert_eq!(shown.0, ["a 3", "a 4", "b 30", "b 40"]);
    assert_eq!(shown.1, ["media 3", "media 4"]);
    let third = ShownQuery {
        iteration: Some(3),
        ..all()
    };
    let shown = lab.shown(task, &third).await;
    assert_eq!(shown.0, ["a 3"]);
    assert_eq!(shown.1, ["media 3"]);
    let mut query = ShownQuery { limit: 3, ..all() };
    let mut seen = 0;
    loop {
        let page = lab.store.plots(&lab.workspace, task, &query, true).await;
        let page = page.unwrap();
        assert!(
            page.items
                .iter()
                .all(|plot| plot.figure.as_deref() == Some("{}"))
        );
        seen += page.items.len();
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 10);
    let mut query = ShownQuery { limit: 2, ..all() };
    let page = lab.store.samples_by(&lab.workspace, task, &query).await;
    query.after = page.unwrap().next;
    assert_eq!(lab.shown_after(task, &query).await, [2, 3]);
    query.after = Some("???".into());
    let refused = lab.store.samples_by(&lab.workspace, task, &query).await;
    assert!(refused.is_err());
}

impl Lab {
    async fn shown_after(&self, task: &TaskId, query: &ShownQuery) -> Vec<u64> {
        let page = self.store.samples_by(&self.workspace, task, query).await;
        let items = page.unwrap().items.into_iter();
        items.map(|sample| sample.index).collect()
    }
}

async fn a_program_reports_without_a_lease_and_once_for_a_key(lab: Lab) {
    let task = draft("by hand", "default");
    let inserted = lab.store.insert_task(&lab.workspace, &task, NOW).await;
    inserted.unwrap();
    let reports = ProgramReports {
        key: Some("k".into()),
        reports: vec![
            said(LineSource::Info, "hello"),
            Report::Single {
                name: "best".into(),
                value: Real(0.5),
            },
        ],
    };
    for repeated in [false, true] {
        let reported = lab.store.report(&lab.workspace, &task.id, &reports, NOW);
        assert_eq!(reported.await.unwrap().repeated, repeated);
    }
    // A key of points is another one.
    assert!(
        !lab.append(&task.id, Some("k"), &[(0, 1.0)])
            .await
            .unwrap()
            .repeated
    );
    let page = lab.read_console(&task.id, ConsoleQuery::from(0, 9)).await;
    assert_eq!(page.total, 1);
    let unknown = TaskId::from_u128(7);
    let refused = lab.store.report(&lab.workspace, &unknown, &reports, NOW);
    let refused = refused.await.unwrap_err();
    assert!(matches!(
        refused,
        ReportError::Refused(LeaseError::UnknownTask(_))
    ));
    let publish = Move {
        force: true,
        ..Move::new(Verb::Publish)
    };
    let moved = lab.store.move_task(&lab.workspace, &task.id, &publish, NOW);
    moved.await.unwrap();
    let other = ProgramReports {
        key: None,
        ..reports
    };
    let refused = lab.store.report(&lab.workspace, &task.id, &other, NOW);
    let refused = refused.await.unwrap_err();
    assert!(matches!(refused, ReportError::Published(_)));
}

async fn points_are_deleted_when_their_project_says_so_and_summaries_stay(lab: Lab) {
    let retention = Retention {
        points_days: Some(2),
        ..Retention::default()
    };
    let old = lab.run("old").await;
    lab.report(&old, 0, vec![loss(0, 0.5), loss(1, 0.25)]).await;
    lab.finish(&old, completed()).await.unwrap();
    let running = lab.run("running").await;
    lab.report(&running, 0, vec![point("train", "loss", 0, 1.0)])
        .await;
    lab.keep(retention).await;
    let day = 24 * 3_600_000;
    let soon = Timestamp(NOW.0 + day);
    assert_eq!(lab.store.expire_points(soon).await.unwrap(), []);
    let late = Timestamp(NOW.0 + 3 * day);
    let expired = lab.store.expire_points(late).await.unwrap();
    assert_eq!(expired, [(lab.workspace.id().clone(), old.task.clone())]);
    assert_eq!(lab.curve(&old.task, "train", "loss").await, "");
    assert_eq!(lab.curve(&running.task, "train", "loss").await, "0:1");
    let series = lab.store.series(&lab.workspace, &old.task).await.unwrap();
    assert_eq!((series[0].count, series[0].last), (2, Real(0.25)));
    assert_eq!(lab.store.expire_points(late).await.unwrap(), []);
}

async fn what_a_project_keeps_holds_for_those_below_it(lab: Lab) {
    let task = lab.try_queue("below", "default/a/b", NOW).await.unwrap();
    let below = lab.claim().await.unwrap();
    assert_eq!(below.task, task);
    lab.keep(Retention {
        points_days: Some(2),
        plots: Some(1),
        samples: None,
    })
    .await;
    let reports = vec![loss(0, 0.5), plot("test", 1, "{}"), plot("test", 2, "{}")];
    lab.report(&below, 0, reports).await;
    assert_eq!(lab.shown(&below.task, &all()).await.0, ["test 2"]);
    lab.finish(&below, completed()).await.unwrap();

    // One that is nearer has the last word.
    let middle = lab.store.project_at(&lab.workspace, "default/a").await;
    let middle = middle.unwrap().unwrap().id;
    let keep = async |days| {
        let edit = ProjectEdit {
            retention: Some(Retention {
                points_days: Some(days),
                ..Retention::default()
            }),
            ..ProjectEdit::default()
        };
        let edited = lab
            .store
            .edit_project(&lab.workspace, &middle, &edit, None, NOW);
        edited.await.unwrap();
    };
    let day = 24 * 3_600_000;
    let late = Timestamp(NOW.0 + 3 * day);
    keep(10).await;
    assert_eq!(lab.store.expire_points(late).await.unwrap(), []);
    keep(1).await;
    let expired = lab.store.expire_points(late).await.unwrap();
    assert_eq!(expired, [(lab.workspace.id().clone(), below.task)]);
}

async fn a_sample_may_be_a_link_and_a_file_may_take_its_place(lab: Lab) {
    let running = lab.run("a run").await;
    lab.put(b"picture").await;
    let file = sample(Purpose::Media, 1, "a", b"picture");
    let Report::Sample(mut link) = file.clone() else {
        unreachable!("it is a sample");
    };
    (link.sha256, link.size_bytes) = (None, 0);
    link.uri = Some("s3://bucket/a.png".into());
    let kept = async || {
        let query = ShownQuery {
            limit: 10,
            ..ShownQuery::default()
        };
        let listed = lab.store.samples_by(&lab.workspace, &running.task, &query);
        listed.await.unwrap().items
    };
    lab.report(&running, 0, vec![Report::Sample(link.clone())])
        .await;
    assert_eq!(kept().await, [link.clone()]);
    assert_eq!(
        lab.store
            .samples(&lab.workspace, &running.task)
            .await
            .unwrap(),
        [],
        "no file"
    );
    lab.report(&running, 1, vec![file.clone()]).await;
    assert_eq!(
        kept()
            .await
            .into_iter()
            .map(Report::Sample)
            .collect::<Vec<_>>(),
        [file]
    );
    lab.report(&running, 2, vec![Report::Sample(link.clone())])
        .await;
    assert_eq!(kept().await, [link]);
}
