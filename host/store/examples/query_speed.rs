//! How long queries over many tasks take: `cargo run --release --example query_speed --
//! [tasks]`, on SQLite and on a PostgreSQL cluster of its own.
//!
//! Every task has three tags, four parameters and five curves. Printed are the median and the
//! slowest of 20 first pages of 50, without the views of the tasks.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use sqlx::{AnyConnection, Connection as _, Executor as _};
use trainshed_core::query::{Entity, parse};
use trainshed_core::{Timestamp, WorkspaceId};
use trainshed_postgres::{Cluster, Durability};
use trainshed_store::{Database, Part, Store};

/// What is asked.
const QUERIES: &[&str] = &[
    "",
    "order by metrics.val/acc desc",
    "order by metrics.val/loss.min",
    "order by last_metrics.3a6d0284e743dc4a9b86f97d6dd1a3bf.1673448ee7064c989d02579c534f6b66.value",
    "status = completed and metrics.val/acc > 0.9 order by metrics.val/loss",
    "metrics.val/acc > 0.999",
    "tags = common",
    "tags = rare",
    "tags = nobody",
    "tags = common order by metrics.val/acc desc",
    "tags = rare order by metrics.val/acc desc",
    "tags != common and tags != even",
    "params.lr < 0.01 and status = failed",
    "params.lr = 0.123456 order by params.lr",
    "order by params.lr",
    "params.lr = nothing",
    "name = \"task 42\"",
    "name ~ \"task 4999[0-9]\"",
    "name ~ \"^task 42$\"",
    "name ~ \"t.sk\"",
    "comment ~ \"needle\"",
    "project = vision/a order by name",
    "created < 1000 order by last_update, name desc",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let tasks: i64 = match std::env::args().nth(1) {
        Some(tasks) => tasks.parse()?,
        None => 100_000,
    };
    let folder = tempfile::tempdir()?;
    measure("SQLite", tasks, &folder.path().join("a"), Database::Folder).await?;
    let cluster = Cluster::start(Durability::Full);
    let database = Database::Postgres(cluster.database());
    measure("PostgreSQL", tasks, &folder.path().join("b"), database).await
}

async fn measure(
    name: &str,
    tasks: i64,
    folder: &Path,
    database: Database,
) -> Result<(), Box<dyn Error>> {
    let store = Store::open(folder, &database).await?;
    let id = WorkspaceId::from_u128(1);
    store
        .create_workspace(&id, "first", "key", Timestamp(0))
        .await?;
    let workspace = store
        .authenticate("key")
        .await?
        .ok_or("the key was just made")?;
    let began = Instant::now();
    fill(&folder.join("trainshed.db"), &database, id.as_str(), tasks).await?;
    println!(
        "{name}: {tasks} tasks in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    for text in QUERIES {
        let query = parse(Entity::Task, text, Timestamp(0))?;
        let part = Part {
            limit: 50,
            ..Part::default()
        };
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..20 {
            let began = Instant::now();
            found = store
                .find(&workspace, Entity::Task, &query, part)
                .await?
                .ids
                .len();
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!(
            "{:8.2} ms {:8.2} ms {found:4}  {text}",
            times[10], times[19]
        );
    }
    Ok(())
}

/// Writes the tasks as plain rows, with what depends on their number alone.
async fn fill(
    file: &Path,
    database: &Database,
    workspace: &str,
    tasks: i64,
) -> Result<(), Box<dyn Error>> {
    let (url, numbers) = match database {
        Database::Folder => (
            format!("sqlite://{}", file.display()),
            format!(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < {tasks})"
            ),
        ),
        Database::Postgres(url) => (
            url.clone(),
            format!("with n (i) as (select generate_series(1, {tasks}))"),
        ),
    };
    let (id, random) = match database {
        Database::Folder => (
            "printf('%032x', (i * 7919) % 1000003)",
            "(((i * 7919) % 1000003) / 1000003.0)",
        ),
        Database::Postgres(_) => (
            "lpad(to_hex((i * 7919) % 1000003), 32, '0')",
            "(((i * 7919) % 1000003) / 1000003.0)",
        ),
    };
    let mut connection = AnyConnection::connect(&url).await?;
    let mut statements = vec![
        "insert into project (workspace, id, path, created) values
             ('@', 'p0', 'vision', 0), ('@', 'p1', 'vision/a', 0), ('@', 'p2', 'text', 0)"
            .to_owned(),
        format!(
            "insert into task (workspace, id, project, name, encoded_name, type, creator, state,
                 state_reason, state_message, state_changed, comment, tags, system_tags, action,
                 params, settings, limits, runtime, record, progress, initial_iteration,
                 last_iteration, created, last_update, fence, attempts)
             {numbers} select '@', {id}, 'p' || cast(i % 3 as text), 'task ' || cast(i as text),
                 {id}, 'training', 'user', case when i % 10 = 0 then 'failed' else 'completed' end,
                 '', '', i, case when i % 1000 = 0 then 'a needle in it' else 'nothing' end,
                 '[]', '[]', 'train', '{{\"name\": \"a name and some more of what params have\"}}',
                 '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 0, i, i, i % 1000, 0, 0 from n"
        ),
    ];
    for (tag, every) in [("common", 2), ("even", 3), ("rare", 10_000)] {
        statements.push(format!(
            "insert into tag (workspace, kind, is_system, tag, owner)
             {numbers} select '@', 'task', 0, '{tag}', {id} from n where i % {every} = 0"
        ));
    }
    for name in ["lr", "batch_size", "epochs", "decay"] {
        statements.push(format!(
            "insert into parameter (workspace, task, section, name, type, value)
             {numbers} select '@', {id}, 'General', '{name}', 'float', cast({random} as text) from n"
        ));
    }
    for (title, series) in [
        ("val", "acc"),
        ("val", "loss"),
        ("train", "loss"),
        ("train", "acc"),
        ("lr", "lr"),
    ] {
        statements.push(format!(
            "insert into series (workspace, task, title, series, point_count, last_value,
                 last_iteration, min_value, min_iteration, max_value, max_iteration)
             {numbers} select '@', {id}, '{title}', '{series}', 1, {random}, 0, {random} / 2, 0,
                 {random} * 2, 0 from n where i % 10 <> 1"
        ));
    }
    let mut transaction = connection.begin().await?;
    for statement in statements {
        let statement = sqlx::AssertSqlSafe(statement.replace('@', workspace));
        transaction.execute(statement).await?;
    }
    transaction.commit().await?;
    if matches!(database, Database::Postgres(_)) {
        // What its own daemon does some seconds later.
        connection.execute("vacuum analyze").await?;
    }
    Ok(())
}
