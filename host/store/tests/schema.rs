//! The schema: what every released one becomes, and that both databases have the same.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::{AnyConnection, Connection as _, Executor as _};
use trainshed_core::Digest;
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskQuery;
use trainshed_postgres::Cluster;
use trainshed_store::{ConsoleQuery, Database, Store};

#[tokio::test]
async fn data_of_schema_1_is_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = connect(&sqlite(folder.path())).await;
    // Tables come in the order of their names, and before those they refer to.
    connection
        .execute("pragma foreign_keys = off")
        .await
        .unwrap();
    let dump = include_str!("schemas/sqlite-0001.sql");
    connection.execute(dump).await.unwrap();
    // The key of the dump is not known to anyone.
    let key = Digest::of(b"key").to_string();
    sqlx::query("update api_key set sha256 = $1")
        .bind(key)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();

    let store = Store::open(folder.path(), &Database::Folder).await.unwrap();
    let workspace = store.authenticate("key").await.unwrap().unwrap();
    let query = TaskQuery {
        project: Some("first".into()),
        limit: 10,
        ..TaskQuery::default()
    };
    let tasks = store.tasks(&workspace, &query).await.unwrap().items;
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["line fit 2", "line fit 1"]);
    let second = &tasks[0];
    assert_eq!(second.status, TaskState::Completed);
    assert_eq!(second.tags, ["a", "b"]);
    assert_eq!(second.plugin.as_ref().unwrap().name, "linear-regression");
    assert_eq!((second.dataset, second.checkpoint), (Some(1), Some(1)));
    let curve = ("train", "mse");
    let page = store.points(&workspace, &second.id, curve, 0, 10).await;
    assert_eq!(page.unwrap().points.view().steps(), [4, 5, 6]);
    let series = store.series(&workspace, &second.id).await.unwrap();
    let counts: Vec<u64> = series.iter().map(|series| series.count).collect();
    assert_eq!(counts, [3, 3, 3, 3]);
    store.compact_points(&workspace, &second.id).await.unwrap();
    let page = store.points(&workspace, &second.id, curve, 0, 10).await;
    let points = page.unwrap().points;
    assert_eq!(points.view().steps(), [4, 5, 6]);
    assert_eq!(points.view().get(0).unwrap().extra, Some("{\"epoch\":4}"));
    let model = store.model(&workspace, 2).await.unwrap().unwrap();
    assert_eq!((model.name.as_str(), model.parent), ("model", Some(1)));
    let kept = |key| model.metadata.iter().find(|pair| pair.0 == key);
    assert_eq!(kept("target").unwrap().1, "target");
    assert_eq!(
        store
            .parameters(&workspace, &second.id)
            .await
            .unwrap()
            .len(),
        7
    );
    let console = store
        .console(&workspace, &second.id, &ConsoleQuery::last(1))
        .await
        .unwrap();
    assert_eq!(console.total, 2);
}

#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &Database::Folder).await.unwrap();
    store.close().await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select tables.name, columns.name || ' ' || lower(columns.type)
                || case when columns.\"notnull\" then ' not null' else '' end
           from sqlite_master as tables, pragma_table_info(tables.name) as columns
          where tables.type = 'table' and tables.name not like 'sqlite_%'
            and tables.name not like '_sqlx_%'",
    )
    .fetch_all(&mut connect(&sqlite(folder.path())).await)
    .await
    .unwrap();
    let sqlite = by_table(columns);

    let folder = tempfile::tempdir().unwrap();
    let url = Cluster::shared().database();
    let database = Database::Postgres(url.clone());
    let store = Store::open(folder.path(), &database).await.unwrap();
    store.close().await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text,
                (column_name || ' ' || data_type
                 || case when is_nullable = 'NO' then ' not null' else '' end)::text
           from information_schema.columns
          where table_schema = 'public' and table_name not like '\\_sqlx\\_%'",
    )
    .fetch_all(&mut connect(&url).await)
    .await
    .unwrap();
    let postgres = by_table(columns);
    for (table, columns) in &sqlite {
        assert_eq!(Some(columns), postgres.get(table), "{table}");
    }
    assert_eq!(sqlite.len(), postgres.len());
}

/// The first migrates, the others wait for it.
#[tokio::test]
async fn servers_that_share_a_database_open_it_at_once() {
    let database = Database::Postgres(Cluster::shared().database());
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let opening = folders
        .iter()
        .map(|folder| Store::open(folder.path(), &database));
    let stores = futures::future::join_all(opening).await;
    for store in stores {
        store.unwrap().close().await;
    }
}

/// Columns of each table in order; what the two databases call differently is one here.
fn by_table(columns: Vec<(String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column) in columns {
        let column = column
            .replace(" bytea", " blob")
            .replace("id integer not null", "id bigint not null")
            .replace("id integer", "id bigint not null")
            .replace("seq integer", "seq bigint not null");
        tables.entry(table).or_default().push(column);
    }
    for columns in tables.values_mut() {
        columns.sort();
    }
    tables
}

fn sqlite(folder: &Path) -> String {
    format!(
        "sqlite://{}?mode=rwc",
        folder.join("trainshed.db").display()
    )
}

async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.unwrap()
}
