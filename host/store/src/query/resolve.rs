//! What a statement cannot do is looked up before it: regular expressions, which the
//! databases do differently or not at all, become sets of ids, and metrics named by hashes
//! get their names.

use std::collections::{BTreeSet, HashMap};

use futures::TryStreamExt as _;
use md5::{Digest as _, Md5};
use sqlx::Row as _;
use trainshed_core::query::{Condition, Direction, Entity, Field, Filter, Pattern, Query, Test};

use super::Resolved;
use super::source::{Source, keys, source, table};
use super::sql::Statement;
use crate::database::Store;
use crate::error::StoreError;
use crate::workspace::Workspace;

/// A filter that one statement can do.
pub(super) enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
    /// `expression` is one of the texts or numbers of a JSON list, in which each is once.
    OneOf {
        expression: String,
        nullable: bool,
        numbers: bool,
        list: String,
        count: usize,
    },
}

impl Node {
    /// What every row that is wanted passes.
    fn conjuncts(&self) -> Vec<&Self> {
        match self {
            Self::All(nodes) => nodes.iter().flat_map(Self::conjuncts).collect(),
            other => vec![other],
        }
    }
}

/// How many rows are few: they are sorted in a millisecond, and where more pass, one in
/// fifty of a hundred thousand does.
const FEW: i64 = 2_000;

/// The names of metrics by their hashes.
type Hashes = HashMap<(String, String), (String, String)>;

impl Store {
    pub(super) async fn resolve(
        &self,
        workspace: &Workspace,
        entity: Entity,
        query: &Query,
    ) -> Result<Resolved, StoreError> {
        let order = query.effective_order(entity);
        let direction = order
            .last()
            .map_or(Direction::Ascending, |last| last.direction);
        let tested = query.filter.tests().into_iter().map(Test::field);
        let mut fields = tested.chain(order.iter().map(|order| &order.field));
        let hashes = match fields.any(|field| matches!(field, Field::HashedMetric { .. })) {
            true => self.metric_hashes(workspace).await?,
            false => Hashes::new(),
        };
        let mut resolved_keys = Vec::new();
        for mut order in order {
            // A metric that nobody has reported orders nothing.
            if let Some(field) = named(&order.field, &hashes) {
                order.field = field;
                resolved_keys.extend(keys(entity, &order));
            }
        }
        let mut matches = Vec::new();
        for test in query.filter.tests() {
            if let Condition::Match { pattern, .. } = test.condition()
                && pattern.literal().is_none()
            {
                let found = self.matching(workspace, entity, test.field(), pattern);
                matches.push(found.await?);
            }
        }
        let mut matches = matches.into_iter();
        let filter = node(&query.filter, &hashes, &mut matches);
        Ok(Resolved {
            entity,
            filter,
            keys: resolved_keys,
            direction,
        })
    }

    /// The rows in which `pattern` is found in `field`, as a set of ids. Every value that has
    /// what the pattern requires is read once.
    async fn matching(
        &self,
        workspace: &Workspace,
        entity: Entity,
        field: &Field,
        pattern: &Pattern,
    ) -> Result<Node, StoreError> {
        let failed = StoreError::database;
        let action = "match a regular expression";
        let (expression, nullable, numbers) = match source(entity, field) {
            Source::Own { .. } => {
                let table = table(entity);
                (format!("{}.id", table.name), false, table.has_number_ids)
            }
            Source::Other(other) => {
                let numbers = other.key == "p.model";
                (other.owner, other.owner_nullable, numbers)
            }
        };
        let statement = Statement::values(self.kind, workspace, entity, field, &pattern.required());
        // A row has the values of a set one by one, and counts once.
        let mut found = BTreeSet::new();
        let mut rows = statement.fetch(&self.reader);
        while let Some(row) = rows.try_next().await.map_err(failed(action))? {
            let value: String = row.try_get(1).map_err(failed(action))?;
            if !pattern.is_match(&value) {
                continue;
            }
            found.insert(match numbers {
                true => {
                    let id: i64 = row.try_get(0).map_err(failed(action))?;
                    id.to_string()
                }
                false => {
                    let id: String = row.try_get(0).map_err(failed(action))?;
                    serde_json::Value::from(id).to_string()
                }
            });
        }
        let count = found.len();
        let found: Vec<String> = found.into_iter().collect();
        Ok(Node::OneOf {
            expression,
            nullable,
            numbers,
            list: format!("[{}]", found.join(",")),
            count,
        })
    }

    /// What few rows pass, if there is such a thing in the filter: a statement that begins
    /// with those rows need not look at the others. Otherwise many rows pass everything that
    /// could be counted, and looking at rows in their order finds enough of them soon.
    pub(super) async fn few<'a>(
        &self,
        workspace: &Workspace,
        query: &'a Resolved,
    ) -> Result<Option<&'a Node>, StoreError> {
        let failed = || StoreError::database("count what passes a test");
        let mut best: Option<(i64, &Node)> = None;
        for node in query.filter.conjuncts() {
            let count = match node {
                Node::OneOf {
                    expression, count, ..
                } if *expression == format!("{}.id", table(query.entity).name) => {
                    i64::try_from(*count).unwrap_or(i64::MAX)
                }
                Node::Test(test) => {
                    let few = Statement::few(self.kind, workspace, query.entity, test, FEW + 1);
                    let Some(few) = few else { continue };
                    let rows = few.fetch_all(&self.reader).await.map_err(failed())?;
                    let row = rows
                        .first()
                        .ok_or_else(|| failed()(sqlx::Error::RowNotFound))?;
                    row.try_get(0).map_err(failed())?
                }
                _ => continue,
            };
            if count <= FEW && best.is_none_or(|(least, _)| count < least) {
                best = Some((count, node));
            }
        }
        Ok(best.map(|(_, node)| node))
    }

    /// Every title and series that was reported, by their hashes.
    async fn metric_hashes(&self, workspace: &Workspace) -> Result<Hashes, StoreError> {
        let action = "list the names of metrics";
        let hash = |text: &str| hex(&Md5::digest(text.as_bytes()));
        // From each name to the next one, however many tasks have it.
        let names: Vec<(String, String)> = sqlx::query_as(
            "with recursive
             titled (title) as (
                 select min(title) from series where workspace = $1
                  union all
                 select (select min(s.title) from series as s
                          where s.workspace = $1 and s.title > titled.title)
                   from titled where titled.title is not null),
             named (title, series) as (
                 select title, (select min(s.series) from series as s
                                 where s.workspace = $1 and s.title = titled.title)
                   from titled where title is not null
                  union all
                 select named.title, (select min(s.series) from series as s
                                       where s.workspace = $1 and s.title = named.title
                                         and s.series > named.series)
                   from named where named.series is not null)
             select title, series from named where series is not null",
        )
        .bind(workspace.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let hashed = names
            .into_iter()
            .map(|(title, series)| ((hash(&title), hash(&series)), (title, series)));
        Ok(hashed.collect())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The field by its names; `None` for a metric that nobody has reported.
fn named(field: &Field, hashes: &Hashes) -> Option<Field> {
    match field {
        Field::HashedMetric {
            title,
            series,
            statistic,
        } => {
            let (title, series) = hashes.get(&(title.clone(), series.clone()))?;
            Some(Field::Metric {
                title: title.clone(),
                series: series.clone(),
                statistic: *statistic,
            })
        }
        other => Some(other.clone()),
    }
}

/// The filter with what was looked up, in the order of its tests.
fn node(filter: &Filter, hashes: &Hashes, matches: &mut impl Iterator<Item = Node>) -> Node {
    let negated = |node, negated| match negated {
        true => Node::Not(Box::new(node)),
        false => node,
    };
    match filter {
        Filter::All(filters) => Node::All(
            filters
                .iter()
                .map(|filter| node(filter, hashes, matches))
                .collect(),
        ),
        Filter::Any(filters) => Node::Any(
            filters
                .iter()
                .map(|filter| node(filter, hashes, matches))
                .collect(),
        ),
        Filter::Not(filter) => Node::Not(Box::new(node(filter, hashes, matches))),
        Filter::Test(test) => match (test.condition(), named(test.field(), hashes)) {
            (
                Condition::Match {
                    pattern,
                    negated: is_negated,
                },
                _,
            ) if pattern.literal().is_none() => {
                let found = matches.next().unwrap_or_else(|| Node::Any(Vec::new()));
                negated(found, *is_negated)
            }
            (_, Some(field)) if field != *test.field() => {
                match Test::new(field, test.condition().clone()) {
                    Ok(test) => Node::Test(test),
                    Err(_) => Node::Any(Vec::new()),
                }
            }
            (_, Some(_)) => Node::Test(test.clone()),
            (condition, None) => {
                // Of a metric that nobody has reported: it is missing everywhere.
                match condition {
                    Condition::Null { negated: false }
                    | Condition::Compare(trainshed_core::query::Comparison::NotEqual, _)
                    | Condition::In { negated: true, .. } => Node::All(Vec::new()),
                    _ => Node::Any(Vec::new()),
                }
            }
        },
    }
}
