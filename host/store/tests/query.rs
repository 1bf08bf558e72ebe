//! Queries mean the same in both databases as over plain values.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use trainshed_core::query::{
    Cell, Comparison, Condition, Direction, Entity, Field, Filter, Kind, Order, Pattern, Query,
    Record, Statistic, TaskFilter, Test, Value, parse,
};
use trainshed_core::{Timestamp, WorkspaceId};
use trainshed_postgres::Cluster;
use trainshed_store::{Database, Part, QueryError, Store, Workspace};

const NOW: Timestamp = Timestamp(1_000);

/// A database with tasks in it that no run has made.
struct Lab {
    store: Store,
    workspace: Workspace,
    connection: AnyConnection,
    is_sqlite: bool,
}

impl Lab {
    async fn open(folder: &Path, database: Database) -> Self {
        let store = Store::open(folder, &database).await.unwrap();
        let id = WorkspaceId::from_u128(1);
        store
            .create_workspace(&id, "first", "key", NOW)
            .await
            .unwrap();
        let workspace = store.authenticate("key").await.unwrap().unwrap();
        let url = match database {
            Database::Folder => format!("sqlite://{}/trainshed.db", folder.display()),
            Database::Postgres(url) => url,
        };
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        let is_sqlite = url.starts_with("sqlite");
        if is_sqlite {
            connection
                .execute("pragma synchronous = off")
                .await
                .unwrap();
            connection
                .execute("pragma busy_timeout = 10000")
                .await
                .unwrap();
        }
        Self {
            store,
            workspace,
            connection,
            is_sqlite,
        }
    }

    /// On SQLite and on PostgreSQL, the latter in a database that orders texts as a language
    /// does and not by their code points.
    async fn both(folder: &Path) -> [Self; 2] {
        let url = Cluster::shared().database();
        let (cluster, name) = url.rsplit_once('/').unwrap();
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        let create = format!(
            "create database {name}_en template template0
                    locale_provider icu icu_locale 'en'"
        );
        connection.execute(AssertSqlSafe(create)).await.unwrap();
        let database = Database::Postgres(format!("{cluster}/{name}_en"));
        [
            Self::open(&folder.join("a"), Database::Folder).await,
            Self::open(&folder.join("b"), database).await,
        ]
    }

    /// Puts these tasks, and no others, into the database.
    async fn fill(&mut self, tasks: &[Task]) {
        let workspace = self.workspace.id().as_str().to_owned();
        let is_sqlite = self.is_sqlite;
        let mut transaction = self.connection.begin().await.unwrap();
        for statement in [
            "delete from tag",
            "delete from parameter",
            "delete from series",
            "delete from single",
            "delete from task",
            "delete from project",
            "delete from queue",
        ] {
            transaction.execute(statement).await.unwrap();
        }
        for (id, path) in PROJECTS {
            sqlx::query(
                "insert into project (workspace, id, path, created) values ($1, $2, $3, 0)",
            )
            .bind(&workspace)
            .bind(id)
            .bind(path)
            .execute(&mut *transaction)
            .await
            .unwrap();
        }
        sqlx::query("insert into queue (workspace, id, name, created) values ($1, 'q1', 'gpu', 0)")
            .bind(&workspace)
            .execute(&mut *transaction)
            .await
            .unwrap();
        for task in tasks {
            sqlx::query(
                "insert into task (workspace, id, project, name, encoded_name, type, parent,
                     creator, state, state_reason, state_message, state_changed, comment, tags,
                     system_tags, action, params, settings, seed, limits, runtime, record,
                     progress, initial_iteration, last_iteration, created, queue, started,
                     last_update, fence, attempts)
                 values ($1, $2, $3, $4, $2, $5, $6, $7, $8, '', '', $9, $10, '[]', '[]', '',
                     '{}', '{}', $11, '{}', '{}', '{}', '{}', 0, $12, $13, $14, $15, $9, 0, 0)",
            )
            .bind(&workspace)
            .bind(&task.id)
            .bind(PROJECTS[task.project].0)
            .bind(&task.name)
            .bind(task.kind)
            .bind(task.parent)
            .bind(task.user.unwrap_or_default())
            .bind(task.state)
            .bind(task.changed)
            .bind(task.comment)
            .bind(task.seed)
            .bind(task.last_iteration)
            .bind(task.created)
            .bind(task.queue.map(|_| "q1"))
            .bind(task.started)
            .execute(&mut *transaction)
            .await
            .unwrap();
            for (tags, is_system) in [(&task.tags, 0_i64), (&task.system_tags, 1)] {
                for tag in tags {
                    sqlx::query(
                        "insert into tag (workspace, kind, is_system, tag, owner)
                         values ($1, 'task', $2, $3, $4)",
                    )
                    .bind(&workspace)
                    .bind(is_system)
                    .bind(*tag)
                    .bind(&task.id)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                }
            }
            if let Some((kind, value)) = task.parameter {
                sqlx::query(
                    "insert into parameter (workspace, task, section, name, type, value)
                     values ($1, $2, 'General', 'x', $3, $4)",
                )
                .bind(&workspace)
                .bind(&task.id)
                .bind(kind)
                .bind(value)
                .execute(&mut *transaction)
                .await
                .unwrap();
            }
            if let Some([last, min, max]) = task.metric {
                sqlx::query(
                    "insert into series (workspace, task, title, series, point_count, last_value,
                         last_iteration, min_value, min_iteration, max_value, max_iteration)
                     values ($1, $2, 'val', 'acc', 1, cast($3 as double precision), 0,
                         cast($4 as double precision), 0, cast($5 as double precision), 0)",
                )
                .bind(&workspace)
                .bind(&task.id)
                .bind(text(last, is_sqlite))
                .bind(text(min, is_sqlite))
                .bind(text(max, is_sqlite))
                .execute(&mut *transaction)
                .await
                .unwrap();
            }
            if let Some(value) = task.single {
                sqlx::query(
                    "insert into single (workspace, task, name, value)
                     values ($1, $2, 'f1', cast($3 as double precision))",
                )
                .bind(&workspace)
                .bind(&task.id)
                .bind(text(value, is_sqlite))
                .execute(&mut *transaction)
                .await
                .unwrap();
            }
        }
        transaction.commit().await.unwrap();
    }

    /// Everything that a query finds, page by page.
    async fn all(&self, query: &Query, limit: u32) -> Vec<String> {
        let mut ids = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let part = Part {
                limit,
                after: after.as_deref(),
                with_total: after.is_none(),
                ..Part::default()
            };
            let found = self
                .store
                .find(&self.workspace, Entity::Task, query, part)
                .await;
            let found = found.unwrap_or_else(|error| panic!("{query}: {error:?}"));
            assert!(found.ids.len() <= limit as usize);
            ids.extend(found.ids);
            after = found.next;
            if after.is_none() {
                return ids;
            }
        }
    }

    async fn total(&self, query: &Query) -> u64 {
        let part = Part {
            limit: 1,
            with_total: true,
            ..Part::default()
        };
        let found = self
            .store
            .find(&self.workspace, Entity::Task, query, part)
            .await;
        found.unwrap().total.unwrap()
    }

    async fn skipping(&self, query: &Query, skip: u64) -> Vec<String> {
        let part = Part {
            limit: 2,
            skip,
            ..Part::default()
        };
        let found = self
            .store
            .find(&self.workspace, Entity::Task, query, part)
            .await;
        found.unwrap().ids
    }
}

/// A number as a text: sqlx 0.9 binds a missing `f64` as a missing `f32`, and then refuses
/// every `f64` in the same statement.
fn text(number: Option<f64>, is_sqlite: bool) -> Option<String> {
    number.map(|number| match number {
        f64::INFINITY if is_sqlite => "9e999".to_owned(),
        number => format!("{number:?}"),
    })
}

const PROJECTS: [(&str, &str); 4] = [
    ("p1", "vision"),
    ("p2", "vision/a"),
    ("p3", "vision%"),
    ("p4", "Ä"),
];
const NAMES: [&str; 8] = ["a", "B", "a.b", "ab%", "Äb", "aab", "_", "a\\b"];
const TAGS: [&str; 4] = ["a", "b", "-c", "ä b"];
const NUMBERS: [f64; 6] = [0.0, -0.0, 1.5, -2.0, f64::INFINITY, 1e-3];

/// What queries can be asked about, in plain values.
#[derive(Debug, Clone)]
struct Task {
    id: String,
    name: String,
    project: usize,
    kind: &'static str,
    state: &'static str,
    user: Option<&'static str>,
    parent: Option<&'static str>,
    comment: &'static str,
    seed: Option<&'static str>,
    queue: Option<&'static str>,
    tags: Vec<&'static str>,
    system_tags: Vec<&'static str>,
    last_iteration: i64,
    created: i64,
    started: Option<i64>,
    changed: i64,
    /// Type and value of `General/x`.
    parameter: Option<(&'static str, &'static str)>,
    /// Last, least and greatest value of `val/acc`; null is NaN.
    metric: Option<[Option<f64>; 3]>,
    /// The value of `f1`.
    single: Option<Option<f64>>,
}

impl Record for Task {
    fn cell(&self, field: &Field) -> Cell {
        let text = |text: Option<&str>| text.map_or(Cell::Missing, |text| Cell::Text(text.into()));
        let real = |value: Option<f64>| value.map_or(Cell::Missing, Cell::Real);
        let set = |set: &[&str]| Cell::Texts(set.iter().map(|tag| (*tag).to_owned()).collect());
        match field {
            Field::Column(column) => match column.name {
                "id" => text(Some(&self.id)),
                "name" => text(Some(&self.name)),
                "project" | "project.path" => text(Some(PROJECTS[self.project].1)),
                "project.id" => text(Some(PROJECTS[self.project].0)),
                "type" => text(Some(self.kind)),
                "status" => text(Some(self.state)),
                "user" => text(self.user),
                "parent" => text(self.parent),
                "comment" => text(Some(self.comment)),
                "seed" => text(self.seed),
                "queue" => text(self.queue),
                "tags" => set(&self.tags),
                "system_tags" => set(&self.system_tags),
                "artifacts" => Cell::Texts(BTreeSet::new()),
                "models.input" => Cell::Integers(BTreeSet::new()),
                "last_iteration" => Cell::Integer(self.last_iteration),
                "created" => Cell::Integer(self.created),
                "started" => self.started.map_or(Cell::Missing, Cell::Integer),
                "status_changed" | "last_update" => Cell::Integer(self.changed),
                other => panic!("`{other}` is not asked about here"),
            },
            Field::Parameter { .. } => match self.parameter {
                Some((kind, value)) => Cell::Typed {
                    text: value.to_owned(),
                    number: value.parse().ok().filter(|_| kind == "float"),
                },
                None => Cell::Missing,
            },
            Field::Metric { statistic, .. } | Field::HashedMetric { statistic, .. } => {
                let [last, min, max] = self.metric.unwrap_or_default();
                match statistic {
                    Statistic::Last => real(last),
                    Statistic::Min => real(min),
                    Statistic::Max => real(max),
                }
            }
            Field::Single { .. } => real(self.single.flatten()),
            Field::Metadata { .. } => Cell::Missing,
        }
    }
}

fn tasks() -> impl Strategy<Value = Vec<Task>> {
    let number = || proptest::option::weighted(0.8, select(NUMBERS.to_vec()));
    let parameters = vec![
        ("float", "1.5"),
        ("float", "-2"),
        ("float", "1e-3"),
        ("text", "1.5"),
        ("text", "b"),
        ("text", "Ä"),
        ("boolean", "true"),
    ];
    let names = (
        select(NAMES.to_vec()),
        0..PROJECTS.len(),
        select(vec!["training", "testing", "qc"]),
        select(vec!["created", "completed", "failed"]),
        proptest::option::of(select(vec!["u1", "U2"])),
        proptest::option::of(select(vec!["x", "y"])),
        select(vec!["", "a comment", "ne\ned le", "naadle"]),
        proptest::option::of(select(vec!["1", "18446744073709551615"])),
        proptest::option::of(Just("gpu")),
    );
    let sets = (
        subsequence(TAGS.to_vec(), 0..=4),
        subsequence(vec!["archived", "hidden"], 0..=2),
    );
    let numbers = (0..3_i64, 0..4_i64, proptest::option::of(0..3_i64), 0..4_i64);
    let reports = (
        proptest::option::of(select(parameters)),
        proptest::option::of([number(), number(), number()]),
        proptest::option::of(number()),
    );
    let task = (names, sets, numbers, reports).prop_map(|(names, sets, numbers, reports)| Task {
        id: String::new(),
        name: names.0.to_owned(),
        project: names.1,
        kind: names.2,
        state: names.3,
        user: names.4,
        parent: names.5,
        comment: names.6,
        seed: names.7,
        queue: names.8,
        tags: sets.0,
        system_tags: sets.1,
        last_iteration: numbers.0,
        created: numbers.1,
        started: numbers.2,
        changed: numbers.3,
        parameter: reports.0,
        metric: reports.1,
        single: reports.2,
    });
    proptest::collection::vec(task, 0..20).prop_map(|mut tasks| {
        for (index, task) in tasks.iter_mut().enumerate() {
            // Ids are not in the order of insertion.
            task.id = format!("{:032x}", (index * 7) % 20);
        }
        tasks
    })
}

fn field() -> impl Strategy<Value = Field> {
    let columns = [
        "id",
        "name",
        "project",
        "project.path",
        "project.id",
        "type",
        "status",
        "user",
        "parent",
        "comment",
        "seed",
        "queue",
        "tags",
        "system_tags",
        "artifacts",
        "models.input",
        "last_iteration",
        "created",
        "started",
        "status_changed",
    ];
    let statistic = select(vec![Statistic::Last, Statistic::Min, Statistic::Max]);
    let metric = |title: &str, series: &str, statistic| Field::Metric {
        title: title.to_owned(),
        series: series.to_owned(),
        statistic,
    };
    prop_oneof![
        6 => select(columns.to_vec()).prop_map(|name| Field::column(Entity::Task, name)),
        2 => Just(Field::Parameter { section: "General".into(), name: "x".into() }),
        2 => statistic.clone().prop_map(move |statistic| metric("val", "acc", statistic)),
        1 => statistic.prop_map(|statistic| Field::HashedMetric {
            // MD5 of `val` and of `acc`.
            title: "3a6d0284e743dc4a9b86f97d6dd1a3bf".into(),
            series: "1673448ee7064c989d02579c534f6b66".into(),
            statistic,
        }),
        1 => Just(Field::Single { name: "f1".into() }),
    ]
}

fn value(kind: Kind) -> BoxedStrategy<Value> {
    let texts: Vec<&str> = NAMES
        .into_iter()
        .chain(TAGS)
        .chain([
            "vision", "vision/a", "u1", "x", "gpu", "p1", "1.5", "archived", "", "a\0", "é",
        ])
        .collect();
    let text = select(texts).prop_map(|text| Value::Text(text.to_owned()));
    let real = select(NUMBERS.to_vec()).prop_map(Value::Real);
    if let Some(choices) = kind.choices() {
        let choice = select(choices);
        return choice
            .prop_map(|choice| Value::Text(choice.to_owned()))
            .boxed();
    }
    match kind {
        Kind::Integer | Kind::Integers => (-1..4_i64).prop_map(Value::Integer).boxed(),
        Kind::Real => real.boxed(),
        Kind::Time => (-1..4_i64)
            .prop_map(|at| Value::Time(Timestamp(at)))
            .boxed(),
        Kind::Typed => prop_oneof![real, text].boxed(),
        _ => text.boxed(),
    }
}

fn condition(kind: Kind) -> impl Strategy<Value = Condition> {
    let comparisons = vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];
    let patterns = vec![
        "a", "^a", "b$", "^a$", "a.b", "a\\.b", "(?i)ä", "ne+d", "ne\\s?ed", "^$", "", "[ab]{2}",
        "%", "_", "\\\\", "a|u1", "vision/", "[", "1\\.5", ".",
    ];
    prop_oneof![
        3 => (select(comparisons), value(kind))
            .prop_map(|(comparison, value)| Condition::Compare(comparison, value)),
        1 => (any::<bool>(), proptest::collection::vec(value(kind), 1..4))
            .prop_map(|(negated, values)| Condition::In { negated, values }),
        2 => (any::<bool>(), select(patterns)).prop_map(|(negated, source)| Condition::Match {
            negated,
            pattern: Pattern::lenient(source),
        }),
        1 => any::<bool>().prop_map(|negated| Condition::Null { negated }),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let test = field().prop_flat_map(|field| {
        let kind = field.kind();
        condition(kind).prop_filter_map("a test that the field can be asked", move |condition| {
            Test::new(field.clone(), condition).ok().map(Filter::Test)
        })
    });
    let filter = test.prop_recursive(3, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::all),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::any),
            inner.prop_map(Filter::negated),
        ]
    });
    let order = field().prop_filter("a set has no order", |field| !field.kind().is_set());
    let order = (order, any::<bool>()).prop_map(|(field, ascending)| Order {
        field,
        direction: match ascending {
            true => Direction::Ascending,
            false => Direction::Descending,
        },
    });
    (filter, proptest::collection::vec(order, 0..3))
        .prop_map(|(filter, order)| Query { filter, order })
}

#[test]
fn both_databases_find_what_plain_values_say_in_the_same_order() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let labs = runtime.block_on(Lab::both(folder.path()));
    let labs = tokio::sync::Mutex::new(labs);
    let config = ProptestConfig {
        cases: match ProptestConfig::default().cases {
            // Each case asks much; PROPTEST_CASES asks for another number of them.
            256 => 24,
            asked => asked,
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let queries = proptest::collection::vec((query(), 1..5_u32, 0..8_u64), 12);
    proptest!(config, |(tasks in tasks(), queries in queries)| {
        runtime.block_on(async {
            for lab in labs.lock().await.iter_mut() {
                lab.fill(&tasks).await;
                for (query, limit, skip) in &queries {
                    let mut wanted: Vec<&Task> =
                        tasks.iter().filter(|task| query.filter.accepts(*task)).collect();
                    wanted.sort_by(|a, b| query.compare(Entity::Task, *a, *b));
                    let wanted: Vec<String> = wanted.iter().map(|task| task.id.clone()).collect();
                    assert_eq!(lab.all(query, *limit).await, wanted, "{query}");
                    assert_eq!(lab.total(query).await, wanted.len() as u64, "{query}");
                    let rest: Vec<String> =
                        wanted.into_iter().skip(usize::try_from(*skip).unwrap()).take(2).collect();
                    assert_eq!(lab.skipping(query, *skip).await, rest, "{query} from {skip} on");
                }
            }
        });
    });
}

fn task(id: u8, name: &str) -> Task {
    Task {
        id: format!("{id:032x}"),
        name: name.to_owned(),
        project: 0,
        kind: "training",
        state: "completed",
        user: None,
        parent: None,
        comment: "",
        seed: None,
        queue: None,
        tags: Vec::new(),
        system_tags: Vec::new(),
        last_iteration: 0,
        created: i64::from(id),
        started: None,
        changed: 0,
        parameter: None,
        metric: None,
        single: None,
    }
}

#[tokio::test]
async fn a_task_is_found_once_however_many_of_its_tags_a_pattern_fits() {
    let folder = tempfile::tempdir().unwrap();
    for mut lab in Lab::both(folder.path()).await {
        let tagged = Task {
            tags: vec!["a", "b"],
            ..task(1, "tagged")
        };
        lab.fill(&[tagged.clone(), task(2, "plain")]).await;
        let query = parse(Entity::Task, "tags ~ \"[ab]\"", NOW).unwrap();
        assert_eq!(lab.all(&query, 9).await, [tagged.id]);
        assert_eq!(lab.total(&query).await, 1);
    }
}

#[tokio::test]
async fn a_cursor_goes_on_where_the_page_ended_whatever_was_added_before_it() {
    let folder = tempfile::tempdir().unwrap();
    for mut lab in Lab::both(folder.path()).await {
        let scored = |id: u8, score: f64| Task {
            metric: Some([Some(score); 3]),
            ..task(id, "scored")
        };
        let mut tasks = vec![
            scored(1, 0.3),
            scored(2, 0.9),
            scored(3, 0.6),
            task(4, "none"),
        ];
        lab.fill(&tasks).await;
        let text = "order by metrics.val/acc desc";
        let query = parse(Entity::Task, text, NOW).unwrap();
        let part = Part {
            limit: 2,
            ..Part::default()
        };
        let first = lab
            .store
            .find(&lab.workspace, Entity::Task, &query, part)
            .await
            .unwrap();
        assert_eq!(first.ids, [&tasks[1].id, &tasks[2].id].map(String::clone));

        tasks.push(scored(5, 0.95));
        tasks.push(scored(6, 0.1));
        lab.fill(&tasks).await;
        let part = Part {
            limit: 9,
            after: first.next.as_deref(),
            ..Part::default()
        };
        let rest = lab
            .store
            .find(&lab.workspace, Entity::Task, &query, part)
            .await
            .unwrap();
        let expected = [0, 5, 3].map(|index: usize| tasks[index].id.clone());
        assert_eq!(rest.ids, expected);
        assert_eq!(rest.next, None);

        let other = parse(Entity::Task, "order by metrics.val/acc", NOW).unwrap();
        for (query, after) in [(&other, first.next.as_deref()), (&query, Some("nonsense"))] {
            let part = Part {
                limit: 1,
                after,
                ..Part::default()
            };
            let refused = lab
                .store
                .find(&lab.workspace, Entity::Task, query, part)
                .await;
            assert!(matches!(refused, Err(QueryError::Cursor(_))), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn what_a_query_found_is_read_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    for mut lab in Lab::both(folder.path()).await {
        let found = Task {
            tags: vec!["a", "b"],
            parameter: Some(("float", "1.5")),
            metric: Some([Some(0.5), None, Some(f64::INFINITY)]),
            single: Some(Some(2.0)),
            started: Some(7),
            ..task(1, "one")
        };
        lab.fill(&[found.clone(), task(2, "two")]).await;
        let names = [
            "name",
            "tags",
            "started",
            "params.x",
            "metrics.val/acc",
            "metrics.val/acc.min",
            "metrics.val/acc.max",
            "metrics.f1",
            "project",
            "user",
        ];
        let fields = names.map(|name| Field::parse(Entity::Task, name).unwrap());
        let ids = [format!("{:032x}", 9), found.id.clone()];
        let cells = lab
            .store
            .cells(&lab.workspace, Entity::Task, &ids, &fields)
            .await;
        let cells = cells.unwrap();
        assert_eq!(
            cells[0],
            vec![Cell::Missing; fields.len()],
            "it is not there"
        );
        let expected: Vec<Cell> = fields.iter().map(|field| found.cell(field)).collect();
        assert_eq!(cells[1], expected);
    }
}

#[tokio::test]
async fn a_task_filter_of_the_protocol_orders_by_the_hashes_of_metrics() {
    let folder = tempfile::tempdir().unwrap();
    for mut lab in Lab::both(folder.path()).await {
        let scores = [0.3, 0.9, 0.6];
        let tasks: Vec<Task> = (1..)
            .zip(scores)
            .map(|(id, score)| Task {
                metric: Some([Some(score), Some(-score), Some(score)]),
                ..task(id, "scored")
            })
            .collect();
        lab.fill(&tasks).await;
        let metric =
            "last_metrics.3a6d0284e743dc4a9b86f97d6dd1a3bf.1673448ee7064c989d02579c534f6b66";
        for (order, expected) in [
            (format!("-{metric}.value"), [1, 2, 0]),
            (format!("{metric}.value"), [0, 2, 1]),
            (format!("{metric}.min_value"), [1, 2, 0]),
        ] {
            let filter = TaskFilter::parse(&json!({"order_by": [order]}), NOW).unwrap();
            let expected = expected.map(|index: usize| tasks[index].id.clone());
            assert_eq!(lab.all(&filter.query, 2).await, expected);
        }
    }
}
