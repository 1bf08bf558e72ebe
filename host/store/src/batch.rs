//! Statements that go to the database together.
//!
//! sqlx runs every connection to SQLite on a thread of its own, and to wake that thread and then
//! the caller takes longer than most statements do. So statements are gathered, and go there as
//! one text. PostgreSQL is sent one after the other.

use futures::TryStreamExt as _;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Either, Execute as _, Executor as _, FromRow, SqlStr, Transaction};

/// What sqlx calls SQLite.
const SQLITE: &str = "SQLite";

/// Statements that run in the order in which they were added, each whether or not those before
/// it changed a row: where a later one must not fail because an earlier one found nothing, its
/// text has to see to that.
#[derive(Default)]
pub(crate) struct Batch {
    statements: Vec<(SqlStr, AnyArguments)>,
    /// Why a value could not be bound, if one could not.
    broken: Option<sqlx::Error>,
}

/// Which statement of a batch it is whose answer is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(usize);

/// What the statements of a batch answered.
#[derive(Default)]
pub(crate) struct Answers(Vec<Answer>);

#[derive(Default)]
struct Answer {
    rows: Vec<AnyRow>,
    changed: u64,
}

impl Batch {
    /// Adds a statement. Its placeholders are `$1`, `$2` and so on, as anywhere; no text within
    /// quotes may look like one.
    pub(crate) fn add(&mut self, mut query: Query<'_, Any, AnyArguments>) -> Ticket {
        let ticket = Ticket(self.statements.len());
        match query.take_arguments() {
            Ok(arguments) => {
                let arguments = arguments.unwrap_or_default();
                self.statements.push((query.sql(), arguments));
            }
            Err(error) => {
                self.broken.get_or_insert(sqlx::Error::Encode(error));
            }
        }
        ticket
    }

    /// Runs what was added since it was run last; the first statement that fails is the last
    /// that runs, and the transaction is then to be given up.
    ///
    /// # Errors
    /// As the database says.
    pub(crate) async fn run(
        &mut self,
        transaction: &mut Transaction<'static, Any>,
    ) -> Result<Answers, sqlx::Error> {
        let mut statements = std::mem::take(&mut self.statements);
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        if statements.len() > 1 && transaction.backend_name() == SQLITE {
            statements = vec![joined(statements)];
        }
        let mut answers = Answers::default();
        for (text, arguments) in statements {
            let mut results = transaction.fetch_many(sqlx::query_with(text, arguments));
            let mut answer = Answer::default();
            while let Some(result) = results.try_next().await? {
                match result {
                    Either::Right(row) => answer.rows.push(row),
                    // A statement is over.
                    Either::Left(result) => {
                        answer.changed = result.rows_affected();
                        answers.0.push(std::mem::take(&mut answer));
                    }
                }
            }
        }
        Ok(answers)
    }
}

impl Answers {
    /// How many rows a statement that writes has written.
    pub(crate) fn changed(&self, ticket: Ticket) -> u64 {
        self.0.get(ticket.0).map_or(0, |answer| answer.changed)
    }

    /// The first row that a statement gave, if it gave one.
    ///
    /// # Errors
    /// When the row does not have the columns of an `R`.
    pub(crate) fn first<R: for<'r> FromRow<'r, AnyRow>>(
        &self,
        ticket: Ticket,
    ) -> Result<Option<R>, sqlx::Error> {
        let row = self.0.get(ticket.0).and_then(|answer| answer.rows.first());
        row.map(R::from_row).transpose()
    }
}

/// One text of several statements: SQLite counts placeholders over all of it, as the driver
/// does.
fn joined(statements: Vec<(SqlStr, AnyArguments)>) -> (SqlStr, AnyArguments) {
    use sqlx::SqlSafeStr as _;

    let mut text = String::new();
    let mut all = AnyArguments::default();
    for (statement, arguments) in statements {
        push_shifted(&mut text, statement.as_str(), all.values.0.len());
        text.push(';');
        all.values.0.extend(arguments.values.0);
    }
    (AssertSqlSafe(text).into_sql_str(), all)
}

/// Appends a statement with `by` added to the number of each placeholder.
fn push_shifted(text: &mut String, statement: &str, by: usize) {
    let mut parts = statement.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_digit());
        let (number, rest) = part.split_at(end.unwrap_or(part.len()));
        text.push('$');
        match number.parse::<usize>() {
            Ok(number) => text.push_str(&(number + by).to_string()),
            Err(_) => text.push_str(number),
        }
        text.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Database, Store};

    use super::*;

    /// An empty store of each database, with a table of numbers.
    async fn stores() -> Vec<(tempfile::TempDir, Store)> {
        let mut stores = Vec::new();
        let postgres = Database::Postgres(trainshed_postgres::Cluster::shared().database());
        for database in [Database::Folder, postgres] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), &database).await.unwrap();
            let mut transaction = store.begin("test").await.unwrap();
            let table = "create table number (id bigint primary key, name text not null)";
            transaction.execute(table).await.unwrap();
            transaction.commit().await.unwrap();
            stores.push((folder, store));
        }
        stores
    }

    fn insert(batch: &mut Batch, id: i64, name: &str) -> Ticket {
        let insert = sqlx::query("insert into number (id, name) values ($1, $2)");
        batch.add(insert.bind(id).bind(name))
    }

    async fn names(store: &Store) -> Vec<String> {
        let names = sqlx::query_scalar("select name from number order by id");
        names.fetch_all(&store.reader).await.unwrap()
    }

    #[tokio::test]
    async fn each_statement_of_a_batch_answers_for_itself() {
        for (_folder, store) in stores().await {
            let mut transaction = store.begin("test").await.unwrap();
            let mut batch = Batch::default();
            for id in 1..=3 {
                insert(&mut batch, id, "old");
            }
            let update = sqlx::query("update number set name = $2 where id > $1");
            let update = batch.add(update.bind(1_i64).bind("new"));
            let nothing = sqlx::query("select id, name from number where id = $1");
            let nothing = batch.add(nothing.bind(7_i64));
            let select = sqlx::query("select id, name from number where name = $1 order by id");
            let select = batch.add(select.bind("new"));
            let returning = sqlx::query("delete from number where id = $1 returning id, name");
            let returning = batch.add(returning.bind(1_i64));

            let answers = batch.run(&mut transaction).await.unwrap();
            type Row = Option<(i64, String)>;
            assert_eq!(answers.changed(update), 2);
            assert_eq!(answers.first::<(i64, String)>(nothing).unwrap(), None);
            let first: Row = answers.first(select).unwrap();
            assert_eq!(first, Some((2, "new".to_owned())));
            let deleted: Row = answers.first(returning).unwrap();
            assert_eq!(deleted, Some((1, "old".to_owned())));

            // A batch that was run is empty.
            insert(&mut batch, 4, "later");
            let answers = batch.run(&mut transaction).await.unwrap();
            assert_eq!(answers.0.len(), 1);
            transaction.commit().await.unwrap();
            assert_eq!(names(&store).await, ["new", "new", "later"]);
        }
    }

    #[tokio::test]
    async fn of_a_batch_with_a_statement_that_fails_nothing_is_kept() {
        for (_folder, store) in stores().await {
            for _ in 0..2 {
                let mut transaction = store.begin("test").await.unwrap();
                let mut batch = Batch::default();
                insert(&mut batch, 1, "first");
                insert(&mut batch, 1, "twice");
                insert(&mut batch, 2, "behind");
                assert!(batch.run(&mut transaction).await.is_err());
                drop(transaction);
                assert_eq!(names(&store).await, [""; 0]);
            }
            let mut transaction = store.begin("test").await.unwrap();
            let mut batch = Batch::default();
            insert(&mut batch, 1, "first");
            batch.run(&mut transaction).await.unwrap();
            transaction.commit().await.unwrap();
            assert_eq!(names(&store).await, ["first"]);
        }
    }

    #[test]
    fn placeholders_count_over_all_statements() {
        let mut text = String::new();
        push_shifted(&mut text, "insert into a values ($1, $12)", 0);
        push_shifted(&mut text, "; select '$' where b = $2 and c=$1", 30);
        let expected = "insert into a values ($1, $12); select '$' where b = $32 and c=$31";
        assert_eq!(text, expected);
    }
}
