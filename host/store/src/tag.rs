//! The tags by which tasks, models, data sets and projects are found.

use sqlx::{Any, AssertSqlSafe, Transaction};

use crate::batch::Batch;
use crate::points::placeholders;
use crate::workspace::Workspace;

/// Rows of one statement.
const ROWS: usize = 16;

/// Writes the tags and the system tags of `owner` in place of its former ones; `kind` is
/// `task`, `model`, `dataset` or `project`.
pub(crate) async fn write_tags(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    kind: &'static str,
    owner: &str,
    (tags, system_tags): (&[String], &[String]),
) -> Result<(), sqlx::Error> {
    delete_tags(transaction, workspace, kind, owner).await?;
    let mut batch = Batch::default();
    insert_tags(&mut batch, workspace, kind, owner, (tags, system_tags));
    batch.run(transaction).await?;
    Ok(())
}

/// Writes the tags and the system tags of an `owner` that has none.
pub(crate) fn insert_tags(
    batch: &mut Batch,
    workspace: &Workspace,
    kind: &'static str,
    owner: &str,
    (tags, system_tags): (&[String], &[String]),
) {
    let tags = tags.iter().map(|tag| (0, tag));
    let system_tags = system_tags.iter().map(|tag| (1, tag));
    let all: Vec<(i64, &String)> = tags.chain(system_tags).collect();
    for tags in all.chunks(ROWS) {
        let statement = format!(
            "insert into tag (workspace, kind, is_system, tag, owner) values {}
             on conflict do nothing",
            placeholders(tags.len(), 5)
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for (is_system, tag) in tags {
            insert = insert
                .bind(workspace.as_str())
                .bind(kind)
                .bind(*is_system)
                .bind(*tag)
                .bind(owner);
        }
        batch.add(insert);
    }
}

/// Forgets the tags of an owner that is deleted.
pub(crate) async fn delete_tags(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    kind: &'static str,
    owner: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from tag where workspace = $1 and kind = $2 and owner = $3")
        .bind(workspace.as_str())
        .bind(kind)
        .bind(owner)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
