//! Answers to requests that carry a key, so that a request that is sent again is answered
//! again and not done again.

use sqlx::{Any, Transaction};
use trainshed_core::Timestamp;

use crate::batch::Batch;
use crate::database::Store;
use crate::error::StoreError;
use crate::workspace::Workspace;

/// How long an answer is kept.
const KEPT_MS: i64 = 24 * 3_600_000;
/// After so long, a request that was begun and not answered counts as lost with its server.
const BEGUN_MS: i64 = 60_000;

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// What is known of a key when a request arrives with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyedRequest {
    /// Nothing: the caller does the request, and says what came of it.
    New,
    /// The same request was answered.
    Answered(StoredAnswer),
    /// The same request is being done.
    Begun,
    /// Another request has the key.
    Other,
}

#[derive(sqlx::FromRow)]
struct AnswerRow {
    request: String,
    status: i64,
    headers: String,
    body: Vec<u8>,
    created: i64,
}

/// The status of an answer that only says where to find what the request made: See Other.
const MADE: i64 = 303;
/// The status of an answer that is kept whole.
const OK: i64 = 200;

tokio::task_local! {
    /// The request that is being done.
    static REQUEST: Option<RequestKey>;
}

/// Workspace and key of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestKey {
    workspace: Workspace,
    key: String,
}

/// What a request with a key is answered from now on, in place of the answer that it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotedAnswer {
    /// Where in the API to find what it made or changed.
    Address(String),
    /// The answer itself, as JSON.
    Json(String),
}

/// Does the work of the request with `key`. What the work makes or changes is noted with the key
/// in the transaction that does it, so that the request is done once although a server may end before
/// it has kept its answer: the answer then says where to find what was made.
pub async fn within_request<T>(
    workspace: &Workspace,
    key: &str,
    work: impl Future<Output = T>,
) -> T {
    let request = RequestKey {
        workspace: workspace.clone(),
        key: key.to_owned(),
    };
    REQUEST.scope(Some(request), work).await
}

/// Does one of several pieces of work of a request, none of which stands for all of it: the key
/// of the request is not noted with it.
pub async fn beside_request<T>(work: impl Future<Output = T>) -> T {
    REQUEST.scope(None, work).await
}

/// The request that is being done, if it has a key.
pub(crate) fn request() -> Option<RequestKey> {
    REQUEST.try_with(Clone::clone).ok().flatten()
}

/// Notes what a transaction makes or changes, by its address in the API, if a request with a key
/// is being done.
pub(crate) async fn note_made(
    transaction: &mut Transaction<'static, Any>,
    address: impl FnOnce() -> String,
) -> Result<(), sqlx::Error> {
    let Some(request) = request() else {
        return Ok(());
    };
    let mut batch = Batch::default();
    note_answer(&mut batch, &request, &NotedAnswer::Address(address()));
    batch.run(transaction).await.map(|_| ())
}

/// Notes what a request is answered when it comes again.
pub(crate) fn note_answer(batch: &mut Batch, request: &RequestKey, answer: &NotedAnswer) {
    let (status, header, body) = match answer {
        NotedAnswer::Address(address) => (MADE, ("location", address.as_str()), ""),
        NotedAnswer::Json(body) => (OK, ("content-type", "application/json"), body.as_str()),
    };
    let update = sqlx::query(
        "update idempotency set status = $1, headers = $2, body = $3
          where workspace = $4 and key = $5 and status = 0",
    )
    .bind(status)
    .bind(serde_json::json!([header]).to_string())
    .bind(body.as_bytes().to_vec())
    .bind(request.workspace.as_str())
    .bind(request.key.as_str());
    batch.add(update);
}

impl Store {
    /// Takes `key` for the request whose digest is `request`, unless it has it already. Of two
    /// that ask at once, one gets it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_request(
        &self,
        workspace: &Workspace,
        key: &str,
        request: &str,
        now: Timestamp,
    ) -> Result<KeyedRequest, StoreError> {
        let action = "look an idempotency key up";
        let mut transaction = self.begin(action).await?;
        let known: Option<AnswerRow> = sqlx::query_as(
            "select request, status, headers, body, created from idempotency
              where workspace = $1 and key = $2",
        )
        .bind(workspace.as_str())
        .bind(key)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if let Some(known) = known {
            let age_ms = now.as_millis() - known.created;
            let is_lost = known.status == 0 && age_ms > BEGUN_MS;
            if known.request != request && age_ms <= KEPT_MS {
                return Ok(KeyedRequest::Other);
            }
            if known.status == 0 && !is_lost {
                return Ok(KeyedRequest::Begun);
            }
            if known.status != 0 && age_ms <= KEPT_MS {
                return known.answer().map(KeyedRequest::Answered);
            }
        }
        sqlx::query(
            "insert into idempotency (workspace, key, request, status, headers, body, created)
             values ($1, $2, $3, 0, '[]', $4, $5)
             on conflict (workspace, key) do update
                set request = excluded.request, status = 0, headers = '[]',
                    body = excluded.body, created = excluded.created",
        )
        .bind(workspace.as_str())
        .bind(key)
        .bind(request)
        .bind(Vec::<u8>::new())
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(KeyedRequest::New)
    }

    /// Keeps the answer to a request that was begun; without one, lets go of the key, so that
    /// the request can be tried again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_request(
        &self,
        workspace: &Workspace,
        key: &str,
        answer: Option<&StoredAnswer>,
    ) -> Result<(), StoreError> {
        let action = "keep an answer";
        let mut transaction = self.begin(action).await?;
        match answer {
            Some(answer) => {
                sqlx::query(
                    "update idempotency set status = $1, headers = $2, body = $3
                      where workspace = $4 and key = $5 and status in (0, $6)",
                )
                .bind(i64::from(answer.status))
                .bind(serde_json::json!(answer.headers).to_string())
                .bind(answer.body.clone())
                .bind(workspace.as_str())
                .bind(key)
                .bind(MADE)
                .execute(&mut *transaction)
                .await
            }
            // What was made stays made.
            None => {
                sqlx::query(
                    "delete from idempotency where workspace = $1 and key = $2 and status = 0",
                )
                .bind(workspace.as_str())
                .bind(key)
                .execute(&mut *transaction)
                .await
            }
        }
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))
    }

    /// Forgets the answers of every workspace that are older than a day; returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_answers(&self, now: Timestamp) -> Result<u64, StoreError> {
        let action = "forget old answers";
        let oldest = now.as_millis() - KEPT_MS;
        let (old,): (i64,) = sqlx::query_as("select count(*) from idempotency where created < $1")
            .bind(oldest)
            .fetch_one(&self.reader)
            .await
            .map_err(StoreError::database(action))?;
        if old == 0 {
            return Ok(0);
        }
        let mut transaction = self.begin(action).await?;
        let gone = sqlx::query("delete from idempotency where created < $1")
            .bind(oldest)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(gone.rows_affected())
    }
}

impl AnswerRow {
    fn answer(self) -> Result<StoredAnswer, StoreError> {
        let action = "read an answer";
        Ok(StoredAnswer {
            status: u16::try_from(self.status).map_err(StoreError::damaged(action))?,
            headers: serde_json::from_str(&self.headers).map_err(StoreError::damaged(action))?,
            body: self.body,
        })
    }
}
