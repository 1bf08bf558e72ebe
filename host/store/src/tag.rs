//! The tags by which tasks, models, data sets and projects are found.

use sqlx::{Any, Transaction};

use crate::workspace::Workspace;

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
    let tags = tags.iter().map(|tag| (0, tag));
    let system_tags = system_tags.iter().map(|tag| (1, tag));
    for (is_system, tag) in tags.chain(system_tags) {
        sqlx::query(
            "insert into tag (workspace, kind, is_system, tag, owner) values ($1, $2, $3, $4, $5)
             on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(kind)
        .bind(is_system)
        .bind(tag)
        .bind(owner)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
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
