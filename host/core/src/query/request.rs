//! What a client asks with a query: the query, which part of the list, and what of each.

use serde_json::{Map, Value as Json, json};

use super::ast::{Filter, Query};
use super::field::{Entity, Field};
use super::parse::{SyntaxError, parse};
use super::task_filter::{self, FilterError, MAX_PAGE_SIZE, TaskFilter};
use super::{MAX_FIELDS, MAX_LIMIT};
use crate::name::nearest;
use crate::text::shortened;
use crate::time::Timestamp;

/// How many are given when a request does not say.
const DEFAULT_LIMIT: u32 = 100;

/// A query with everything around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which ones, and in which order.
    pub query: Query,
    /// Only these fields of each, beside the id; without it, everything.
    pub fields: Option<Vec<Field>>,
    /// Only these parts of each, as dotted paths of its JSON, beside the id.
    pub only_fields: Option<Vec<String>>,
    /// At most so many: 1 to [`MAX_LIMIT`].
    pub limit: u32,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// How many to leave out first.
    pub skip: u64,
    /// Whether to count all that fit.
    pub with_total: bool,
}

/// A part of a request that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The text of the query, at `pointer`.
    #[error("{source}")]
    Syntax {
        /// JSON pointer of the text, or the name of the parameter that has it.
        pointer: String,
        /// What is wrong with it, and where.
        source: SyntaxError,
    },
    /// Any other part.
    #[error(transparent)]
    Part(#[from] FilterError),
}

impl RequestError {
    /// JSON pointer of the part.
    pub fn pointer(&self) -> &str {
        match self {
            Self::Syntax { pointer, .. } => pointer,
            Self::Part(error) => &error.pointer,
        }
    }

    /// The character of the text at which it is wrong, counting from 1.
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::Syntax { source, .. } => Some(source.position),
            Self::Part(_) => None,
        }
    }
}

/// Keys that requests about anything have.
const KEYS: &[&str] = &["filter", "order_by", "fields", "limit", "after", "total"];
/// Keys that requests about tasks have too, with the names of the ClearML SDK.
const TASK_KEYS: &[&str] = &[
    "task_ids",
    "project_name",
    "task_name",
    "tags",
    "allow_archived",
    "task_filter",
];

impl Request {
    /// The request for what the text of a query says, from `pointer` of a client's call.
    ///
    /// # Errors
    /// Where and why it is no query.
    pub fn of_text(
        entity: Entity,
        text: &str,
        pointer: &str,
        now: Timestamp,
    ) -> Result<Self, RequestError> {
        let query = parse(entity, text, now).map_err(|source| RequestError::Syntax {
            pointer: pointer.to_owned(),
            source,
        })?;
        Ok(Self {
            query,
            fields: None,
            only_fields: None,
            limit: DEFAULT_LIMIT,
            after: None,
            skip: 0,
            with_total: false,
        })
    }

    /// Reads the JSON object of a request. An empty one asks for everything.
    ///
    /// # Errors
    /// The first part that cannot be used.
    pub fn parse(entity: Entity, body: &Json, now: Timestamp) -> Result<Self, RequestError> {
        let Json::Object(object) = body else {
            return Err(FilterError::new("", "must be an object").into());
        };
        check_keys(entity, object)?;
        let text = match object.get("filter") {
            None | Some(Json::Null) => "",
            Some(text) => task_filter::text(text, "/filter")?,
        };
        let mut request = Self::of_text(entity, text, "/filter", now)?;
        if entity == Entity::Task {
            request.add_task_keys(object, now)?;
        }
        let order = task_filter::order(entity, object)?;
        if !order.is_empty() {
            request.query.order = order;
        }
        if let Some(names) = task_filter::texts(object, "fields")? {
            request.fields = Some(fields(entity, &names, "/fields")?);
        }
        if let Some(limit) = task_filter::whole(object, "limit", u64::from(MAX_LIMIT))? {
            request.limit = u32::try_from(limit).unwrap_or(MAX_LIMIT);
        }
        if request.limit == 0 {
            let message = format!("must be 1 to {MAX_LIMIT}, but it is 0");
            return Err(FilterError::new("/limit", message).into());
        }
        request.after = match object.get("after") {
            None | Some(Json::Null) => None,
            Some(Json::String(after)) => Some(after.clone()),
            Some(_) => return Err(FilterError::new("/after", "must be a text").into()),
        };
        request.with_total = task_filter::flag(object, "total")?;
        Ok(request)
    }

    fn add_task_keys(
        &mut self,
        object: &Map<String, Json>,
        now: Timestamp,
    ) -> Result<(), RequestError> {
        let column = |name| Field::column(Entity::Task, name);
        let mut filters = Vec::new();
        for (key, field) in [("task_ids", "id"), ("tags", "tags")] {
            if let Some(items) = object.get(key) {
                filters.push(Filter::list(&column(field), items, &format!("/{key}"))?);
            }
        }
        for (key, field) in [("project_name", "project.path"), ("task_name", "name")] {
            match object.get(key) {
                None | Some(Json::Null) => {}
                Some(value) => filters.push(task_filter::patterns(
                    &column(field),
                    value,
                    &format!("/{key}"),
                )?),
            }
        }
        let archived_too =
            !object.contains_key("allow_archived") || task_filter::flag(object, "allow_archived")?;
        if !archived_too {
            let archived = json!(["-archived"]);
            filters.push(Filter::list(&column("system_tags"), &archived, "")?);
        }
        if let Some(filter) = object.get("task_filter").filter(|filter| !filter.is_null()) {
            let filter = TaskFilter::parse(filter, now)
                .map_err(|error: FilterError| error.inside("/task_filter"))?;
            filters.push(filter.query.filter);
            if !filter.query.order.is_empty() {
                self.query.order = filter.query.order;
            }
            self.only_fields = filter.only_fields;
            if let Some(size) = filter.page_size {
                self.limit = size;
            }
            if let Some(page) = filter.page {
                self.limit = filter
                    .page_size
                    .unwrap_or(u32::try_from(MAX_PAGE_SIZE).unwrap_or(u32::MAX));
                self.skip = page.saturating_mul(u64::from(self.limit));
            }
        }
        let given = std::mem::replace(&mut self.query.filter, Filter::everything());
        self.query.filter = filters.into_iter().fold(given, Filter::and);
        task_filter::check_size(&self.query.filter)?;
        Ok(())
    }
}

/// The fields of these names.
///
/// # Errors
/// The first name that is none.
pub fn fields(entity: Entity, names: &[String], pointer: &str) -> Result<Vec<Field>, FilterError> {
    if names.len() > MAX_FIELDS {
        let message = format!(
            "must have at most {MAX_FIELDS} names, but has {}",
            names.len()
        );
        return Err(FilterError::new(pointer, message));
    }
    let mut fields: Vec<Field> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let field = Field::parse(entity, name).map_err(|expected| {
            let name = shortened(name, 80);
            let message = format!("must be {expected}, but it is `{name}`");
            FilterError::new(&format!("{pointer}/{index}"), message)
        })?;
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    Ok(fields)
}

fn check_keys(entity: Entity, object: &Map<String, Json>) -> Result<(), FilterError> {
    let more: &[&str] = match entity {
        Entity::Task => TASK_KEYS,
        _ => &[],
    };
    let keys: Vec<&str> = KEYS.iter().chain(more).copied().collect();
    let unknown = object.keys().find(|key| !keys.contains(&key.as_str()));
    let Some(unknown) = unknown else {
        return Ok(());
    };
    let short = shortened(unknown, 80);
    let message = match nearest(&short, keys.iter().copied()) {
        Some(near) => format!("is not known; did you mean `{near}`?"),
        None => format!("is not known; the keys are {}", keys.join(", ")),
    };
    Err(FilterError::new(&format!("/{short}"), message))
}
