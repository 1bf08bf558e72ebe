//! Samples, plots and reported trials of tasks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::TryStreamExt as _;
use serde_json::{Map, Value, json};
use sqlx::{Any, Transaction};
use trainshed_core::report::{MAX_TRIALS_BYTES, Plot, Purpose, Sample};
use trainshed_core::view::{Page, PlotView, Retention};
use trainshed_core::{TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::task::{BadCursor, QueryError};
use crate::workspace::Workspace;

/// Most samples, and most plots, of one task.
pub const MAX_SHOWN: u64 = 100_000;
/// Bytes of figures of one page.
const PAGE_BYTES: usize = 16 << 20;
const ZSTD_LEVEL: i32 = 3;

/// Which samples or plots of a task are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownQuery {
    /// Of samples: only those of this purpose.
    pub purpose: Option<Purpose>,
    /// Only those of this title, or category.
    pub title: Option<String>,
    /// Only those of this series, or group.
    pub series: Option<String>,
    /// Only those of this iteration, or index.
    pub iteration: Option<u64>,
    /// Only those of the last so many iterations of their series.
    pub last: Option<u64>,
    /// At most so many; at least 1.
    pub limit: u64,
    /// Where the last page said that the list goes on.
    pub after: Option<String>,
}

#[derive(sqlx::FromRow)]
struct SampleRow {
    kind: String,
    category: String,
    sample_group: String,
    position: i64,
    name: String,
    sha256: Option<String>,
    uri: Option<String>,
    size_bytes: i64,
    content_type: String,
    at: i64,
    extra: Option<String>,
}

#[derive(sqlx::FromRow)]
struct PlotRow {
    title: String,
    series: String,
    iteration: i64,
    at: i64,
    size_bytes: i64,
    body: Option<Vec<u8>>,
}

/// The place of a sample in its list: kind, category, group, index and name; a plot's has
/// neither kind nor name.
type Place = (String, String, String, i64, String);

type Tx = Transaction<'static, Any>;

impl Store {
    /// All samples of a task whose content is stored, by category, group and index.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn samples(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Vec<Sample>, StoreError> {
        let rows: Vec<SampleRow> = sqlx::query_as(
            "select kind, category, sample_group, position, name, sha256, uri, size_bytes,
                    content_type, at, extra
               from sample where workspace = $1 and task = $2 and sha256 is not null
              order by category, sample_group, position, kind, name",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list samples"))?;
        rows.into_iter().map(SampleRow::sample).collect()
    }

    /// A page of the samples of a task, by category, group and index.
    ///
    /// # Errors
    /// When the cursor is not one of ours, or the database does not answer.
    pub async fn samples_by(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        query: &ShownQuery,
    ) -> Result<Page<Sample>, QueryError> {
        let action = "list samples";
        let after = query.place()?;
        let (is_first, place) = (after.is_none(), after.unwrap_or_default());
        let rows: Vec<SampleRow> = sqlx::query_as(
            "select kind, category, sample_group, position, name, sha256, uri, size_bytes,
                    content_type, at, extra
               from sample
              where workspace = $1 and task = $2
                and ($3 = '' or kind = $3) and ($4 = '' or category = $4)
                and ($5 = '' or sample_group = $5) and ($6 < 0 or position = $6)
                and ($7 < 0 or position >=
                      (select min(kept.position) from
                        (select distinct other.position from sample as other
                          where other.workspace = sample.workspace and other.task = sample.task
                            and other.kind = sample.kind and other.category = sample.category
                            and other.sample_group = sample.sample_group
                          order by other.position desc limit $7) as kept))
                and ($8 = 1
                     or (category, sample_group, position, kind, name) > ($9, $10, $11, $12, $13))
              order by category, sample_group, position, kind, name limit $14",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(query.purpose.map_or("", Purpose::as_str))
        .bind(query.title.as_deref().unwrap_or_default())
        .bind(query.series.as_deref().unwrap_or_default())
        .bind(query.iteration.map_or(-1, bigint))
        .bind(query.last.map_or(-1, bigint))
        .bind(i64::from(is_first))
        .bind(place.1)
        .bind(place.2)
        .bind(place.3)
        .bind(place.0)
        .bind(place.4)
        .bind(bigint(query.limit.saturating_add(1)))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))
        .map_err(QueryError::Store)?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        let items = rows.into_iter().take(limit).map(SampleRow::sample);
        let items: Vec<Sample> = items.collect::<Result<_, _>>().map_err(QueryError::Store)?;
        let place = |last: &Sample| {
            cursor(&(
                last.purpose.as_str().to_owned(),
                last.category.clone(),
                last.group.clone(),
                bigint(last.index),
                last.name.clone(),
            ))
        };
        let next = items.last().filter(|_| more).map(place);
        Ok(Page { items, next })
    }

    /// A page of the plots of a task, by title, series and iteration, with their figures where
    /// `figures` asks for them.
    ///
    /// # Errors
    /// When the cursor is not one of ours, or the database does not answer.
    pub async fn plots(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        query: &ShownQuery,
        figures: bool,
    ) -> Result<Page<PlotView>, QueryError> {
        let action = "list plots";
        let after = query.place()?;
        let (is_first, place) = (after.is_none(), after.unwrap_or_default());
        let mut rows = sqlx::query_as::<_, PlotRow>(
            "select title, series, iteration, at, size_bytes,
                    case when $3 = 1 then body end as body
               from plot
              where workspace = $1 and task = $2
                and ($4 = '' or title = $4) and ($5 = '' or series = $5)
                and ($6 < 0 or iteration = $6)
                and ($7 < 0 or iteration >=
                      (select min(kept.iteration) from
                        (select other.iteration from plot as other
                          where other.workspace = plot.workspace and other.task = plot.task
                            and other.title = plot.title and other.series = plot.series
                          order by other.iteration desc limit $7) as kept))
                and ($8 = 1 or (title, series, iteration) > ($9, $10, $11))
              order by title, series, iteration limit $12",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(i64::from(figures))
        .bind(query.title.as_deref().unwrap_or_default())
        .bind(query.series.as_deref().unwrap_or_default())
        .bind(query.iteration.map_or(-1, bigint))
        .bind(query.last.map_or(-1, bigint))
        .bind(i64::from(is_first))
        .bind(place.1)
        .bind(place.2)
        .bind(place.3)
        .bind(bigint(query.limit.saturating_add(1)))
        .fetch(&self.reader);
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let mut bytes = 0;
        loop {
            let row = rows.try_next().await.map_err(StoreError::database(action));
            let Some(row) = row.map_err(QueryError::Store)? else {
                return Ok(page);
            };
            if page.items.len() == limit || bytes >= PAGE_BYTES {
                let place = |last: &PlotView| {
                    let (title, series) = (last.title.clone(), last.series.clone());
                    let iteration = bigint(last.iteration);
                    cursor(&(String::new(), title, series, iteration, String::new()))
                };
                page.next = page.items.last().map(place);
                return Ok(page);
            }
            let plot = row.view().map_err(QueryError::Store)?;
            bytes += plot.figure.as_ref().map_or(0, String::len);
            page.items.push(plot);
        }
    }

    /// A plot with its figure: that of `iteration`, or the last of its series.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn plot(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        (title, series): (&str, &str),
        iteration: Option<u64>,
    ) -> Result<Option<PlotView>, StoreError> {
        let row: Option<PlotRow> = sqlx::query_as(
            "select title, series, iteration, at, size_bytes, body from plot
              where workspace = $1 and task = $2 and title = $3 and series = $4
                and ($5 < 0 or iteration = $5)
              order by iteration desc limit 1",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(title)
        .bind(series)
        .bind(iteration.map_or(-1, bigint))
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a plot"))?;
        row.map(PlotRow::view).transpose()
    }

    /// The table of trials that a task reported last.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reported_trials(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Map<String, Value>>, StoreError> {
        let action = "read a table of trials";
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("select body from trial_report where workspace = $1 and task = $2")
                .bind(workspace.as_str())
                .bind(task.as_str())
                .fetch_optional(&self.reader)
                .await
                .map_err(StoreError::database(action))?;
        let parsed = row.map(|(body,)| {
            let text = zstd::bulk::decompress(&body, MAX_TRIALS_BYTES)
                .map_err(StoreError::damaged(action))?;
            serde_json::from_slice(&text).map_err(StoreError::damaged(action))
        });
        parsed.transpose()
    }
}

/// How much is kept of the reports of a task: what its project says, and where that says
/// nothing, the next one above it that does.
pub(crate) async fn retention(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<Retention, StoreError> {
    let action = "read what a project keeps";
    let own: Option<(String,)> = sqlx::query_as(
        "select project.path
           from task join project
             on project.workspace = task.workspace and project.id = task.project
          where task.workspace = $1 and task.id = $2",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(StoreError::database(action))?;
    let Some((path,)) = own else {
        return Ok(Retention::default());
    };
    let above = path.match_indices('/').map(|(end, _)| &path[..end]);
    let mut kept = Retention::default();
    for path in above.chain([path.as_str()]) {
        let found: Option<(String,)> =
            sqlx::query_as("select retention from project where workspace = $1 and path = $2")
                .bind(workspace.as_str())
                .bind(path)
                .fetch_optional(&mut **transaction)
                .await
                .map_err(StoreError::database(action))?;
        if let Some((text,)) = found {
            let own: Retention =
                serde_json::from_str(&text).map_err(StoreError::damaged(action))?;
            kept = own.below(kept);
        }
    }
    Ok(kept)
}

/// Records a sample; one at the same place is replaced. Returns false when it is no link and its
/// file has not been uploaded.
pub(crate) async fn write_sample(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    sample: &Sample,
) -> Result<bool, sqlx::Error> {
    let from = match &sample.uri {
        Some(_) => "select $10, $1, $2, $3, $4, $5, $6, null, $11, $12, $7, $8, $9 where true",
        None => {
            "select workspace, $1, $2, $3, $4, $5, $6, sha256, null, size_bytes, $7, $8, $9
               from file where workspace = $10 and sha256 = $11 and size_bytes = $12"
        }
    };
    let insert = format!(
        "insert into sample (workspace, task, kind, category, sample_group, position, name,
                             sha256, uri, size_bytes, content_type, at, extra) {from}
         on conflict (workspace, task, kind, category, sample_group, position, name) do update
            set sha256 = excluded.sha256, uri = excluded.uri, size_bytes = excluded.size_bytes,
                content_type = excluded.content_type, at = excluded.at,
                extra = excluded.extra"
    );
    let extra = sample.extra.as_ref();
    let digest = sample.sha256.map(|digest| digest.to_string());
    let written = sqlx::query(sqlx::AssertSqlSafe(insert))
        .bind(task.as_str())
        .bind(sample.purpose.as_str())
        .bind(&sample.category)
        .bind(&sample.group)
        .bind(bigint(sample.index))
        .bind(&sample.name)
        .bind(&sample.content_type)
        .bind(sample.at.as_millis())
        .bind(extra.map(|extra| json!(extra).to_string()))
        .bind(workspace.as_str())
        .bind(sample.uri.clone().or(digest).unwrap_or_default())
        .bind(bigint(sample.size_bytes))
        .execute(&mut **transaction)
        .await?;
    Ok(written.rows_affected() > 0)
}

/// Deletes the samples of the oldest iterations of a series of media, all but the last `kept`.
pub(crate) async fn trim_samples(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    (category, group): (&str, &str),
    kept: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from sample
          where workspace = $1 and task = $2 and kind = 'media' and category = $3
            and sample_group = $4
            and position < (select min(kept.position) from
                  (select distinct position from sample
                    where workspace = $1 and task = $2 and kind = 'media' and category = $3
                      and sample_group = $4
                    order by position desc limit $5) as kept)",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(category)
    .bind(group)
    .bind(i64::from(kept))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Records a plot; one of the same title, series and iteration is replaced.
pub(crate) async fn write_plot(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    plot: &Plot,
) -> Result<(), StoreError> {
    let action = "record a plot";
    let body = zstd::bulk::compress(plot.figure.as_bytes(), ZSTD_LEVEL);
    sqlx::query(
        "insert into plot (workspace, task, title, series, iteration, at, kind, body, size_bytes)
         values ($1, $2, $3, $4, $5, $6, 'zstd', $7, $8)
         on conflict (workspace, task, title, series, iteration) do update
            set at = excluded.at, kind = excluded.kind, body = excluded.body, sha256 = null,
                size_bytes = excluded.size_bytes",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(&plot.title)
    .bind(&plot.series)
    .bind(bigint(plot.iteration))
    .bind(plot.at.as_millis())
    .bind(body.map_err(StoreError::io(action))?)
    .bind(bigint(plot.figure.len() as u64))
    .execute(&mut **transaction)
    .await
    .map_err(StoreError::database(action))?;
    Ok(())
}

/// Deletes the plots of the oldest iterations of a series, all but the last `kept`.
pub(crate) async fn trim_plots(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    (title, series): (&str, &str),
    kept: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from plot
          where workspace = $1 and task = $2 and title = $3 and series = $4
            and iteration < (select min(kept.iteration) from
                  (select iteration from plot
                    where workspace = $1 and task = $2 and title = $3 and series = $4
                    order by iteration desc limit $5) as kept)",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(title)
    .bind(series)
    .bind(i64::from(kept))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Keeps the table of trials that a program reports, in place of the former one.
pub(crate) async fn write_trials(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    payload: &Map<String, Value>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let action = "record a table of trials";
    let body = zstd::bulk::compress(json!(payload).to_string().as_bytes(), ZSTD_LEVEL);
    sqlx::query(
        "insert into trial_report (workspace, task, at, body) values ($1, $2, $3, $4)
         on conflict (workspace, task) do update set at = excluded.at, body = excluded.body",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(now.as_millis())
    .bind(body.map_err(StoreError::io(action))?)
    .execute(&mut **transaction)
    .await
    .map_err(StoreError::database(action))?;
    Ok(())
}

/// How many samples and how many plots a task has.
pub(crate) async fn count_shown(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<(u64, u64), sqlx::Error> {
    let (samples, plots): (i64, i64) = sqlx::query_as(
        "select (select count(*) from sample where workspace = $1 and task = $2),
                (select count(*) from plot where workspace = $1 and task = $2)",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_one(&mut **transaction)
    .await?;
    Ok((unsigned(samples), unsigned(plots)))
}

/// The text of a place in a list.
fn cursor(place: &Place) -> String {
    URL_SAFE_NO_PAD.encode(json!(place).to_string())
}

impl ShownQuery {
    /// Where the list goes on.
    fn place(&self) -> Result<Option<Place>, BadCursor> {
        let read = |text: &String| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let place: Place = serde_json::from_slice(&bytes).ok()?;
            let texts = [&place.0, &place.1, &place.2, &place.4];
            Some(place.clone()).filter(|_| !texts.iter().any(|text| text.contains('\0')))
        };
        let refused = |text: &String| BadCursor(text.chars().take(80).collect());
        let after = self.after.as_ref();
        after
            .map(|text| read(text).ok_or_else(|| refused(text)))
            .transpose()
    }
}

impl SampleRow {
    fn sample(self) -> Result<Sample, StoreError> {
        let action = "read a sample";
        let purpose = Purpose::parse(&self.kind);
        Ok(Sample {
            purpose: purpose
                .ok_or_else(|| format!("there is no purpose `{}`", self.kind))
                .map_err(StoreError::damaged(action))?,
            category: self.category,
            group: self.sample_group,
            index: unsigned(self.position),
            name: self.name,
            sha256: self
                .sha256
                .map(|digest| digest.parse())
                .transpose()
                .map_err(StoreError::damaged(action))?,
            uri: self.uri,
            size_bytes: unsigned(self.size_bytes),
            content_type: self.content_type,
            at: Timestamp(self.at),
            extra: self
                .extra
                .map(|extra| serde_json::from_str(&extra))
                .transpose()
                .map_err(StoreError::damaged(action))?,
        })
    }
}

impl PlotRow {
    fn view(self) -> Result<PlotView, StoreError> {
        let action = "read a plot";
        let size = usize::try_from(self.size_bytes).unwrap_or(0);
        let text = |body: Vec<u8>| -> Result<String, StoreError> {
            let bytes = zstd::bulk::decompress(&body, size).map_err(StoreError::damaged(action))?;
            String::from_utf8(bytes).map_err(StoreError::damaged(action))
        };
        Ok(PlotView {
            title: self.title,
            series: self.series,
            iteration: unsigned(self.iteration),
            at: Timestamp(self.at),
            size_bytes: unsigned(self.size_bytes),
            figure: self.body.map(text).transpose()?,
        })
    }
}
