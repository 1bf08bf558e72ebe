//! The JSON by which the ClearML protocol asks for tasks, as a [`Query`].

use serde_json::{Map, Value as Json};

use super::ast::{Comparison, Condition, Direction, Filter, Order, Query, Test, Value};
use super::field::{Entity, Field};
use super::pattern::Pattern;
use super::{MAX_ORDERS, MAX_TESTS, MAX_TEXT_BYTES, MAX_VALUES, tags};
use crate::name::nearest;
use crate::text::shortened;
use crate::time::Timestamp;

/// Most tasks of one page, in this form.
pub const MAX_PAGE_SIZE: u64 = 500;

/// The system tag of what is not shown unless it is asked for.
const HIDDEN: &str = "hidden";

/// What a `task_filter` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFilter {
    /// Which tasks, and in which order.
    pub query: Query,
    /// Which page of the list, counting from 0; without it, lists go on by cursors.
    pub page: Option<u64>,
    /// At most so many tasks: 1 to [`MAX_PAGE_SIZE`].
    pub page_size: Option<u32>,
    /// Only these parts of each task, as dotted paths; the id is always there.
    pub only_fields: Option<Vec<String>>,
}

/// A part of a `task_filter` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer} {message}")]
pub struct FilterError {
    /// JSON pointer of the part, from the filter on.
    pub pointer: String,
    /// What is wrong with it, as the rest of a sentence that begins with its name.
    pub message: String,
}

impl FilterError {
    pub(crate) fn new(pointer: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.to_owned(),
            message: message.into(),
        }
    }

    /// The same, when the filter is itself a part at `pointer`.
    #[must_use]
    pub fn inside(mut self, pointer: &str) -> Self {
        self.pointer.insert_str(0, pointer);
        self
    }
}

/// Keys whose value is a list by the grammar of tags, and their fields.
const LISTS: &[(&str, &str)] = &[
    ("id", "id"),
    ("status", "status"),
    ("type", "type"),
    ("tags", "tags"),
    ("system_tags", "system_tags"),
    ("user", "user"),
    ("parent", "parent"),
    ("models.input.model", "models.input"),
    ("models.output.model", "models.output"),
];

/// Keys whose value is a range or dates, and their fields.
const RANGES: &[(&str, &str)] = &[
    ("created", "created"),
    ("started", "started"),
    ("completed", "completed"),
    ("published", "published"),
    ("status_changed", "status_changed"),
    ("last_update", "last_update"),
    ("last_iteration", "last_iteration"),
];

/// Keys that are neither.
const OTHERS: &[&str] = &[
    "name",
    "project",
    "project_name",
    "search_text",
    "execution.queue",
    "_all_",
    "_and_",
    "_any_",
    "_or_",
    "order_by",
    "page",
    "page_size",
    "only_fields",
    "search_hidden",
    "include_subprojects",
    "hyperparams.SECTION.NAME.value",
    "last_metrics.MD5.MD5.value",
];

/// Names of fields in the protocol that are others here.
const PROTOCOL_NAMES: &[(&str, &str)] = &[
    ("last_change", "last_update"),
    ("user.name", "user"),
    ("project.name", "project.path"),
    ("parent.name", "parent"),
    ("execution.queue", "queue"),
    ("execution.queue.name", "queue"),
    ("models.input.model", "models.input"),
    ("models.output.model", "models.output"),
];

impl TaskFilter {
    /// Reads the JSON object of a filter.
    ///
    /// # Errors
    /// The first part that cannot be used.
    pub fn parse(filter: &Json, now: Timestamp) -> Result<Self, FilterError> {
        let Some(filter) = filter.as_object() else {
            return Err(FilterError::new("", "must be an object"));
        };
        let mut tests = Vec::new();
        for (key, value) in filter {
            tests.push(condition(filter, key, value, now)?);
        }
        let hidden_too = filter.contains_key("id") || flag(filter, "search_hidden")?;
        if !hidden_too {
            tests.push(
                equal("system_tags", HIDDEN)
                    .map(Filter::negated)
                    .map_err(wrong(""))?,
            );
        }
        let filter_of_all = tests.into_iter().fold(Filter::everything(), Filter::and);
        check_size(&filter_of_all)?;
        Ok(Self {
            query: Query {
                filter: filter_of_all,
                order: order(Entity::Task, filter)?,
            },
            page: whole(filter, "page", u64::MAX)?,
            page_size: match whole(filter, "page_size", MAX_PAGE_SIZE)? {
                Some(0) => {
                    let message = format!("must be 1 to {MAX_PAGE_SIZE}, but it is 0");
                    return Err(FilterError::new("/page_size", message));
                }
                size => size.and_then(|size| u32::try_from(size).ok()),
            },
            only_fields: texts(filter, "only_fields")?,
        })
    }
}

impl Filter {
    /// What has a name in which `pattern` is found: a regular expression, or a plain text
    /// where it is none. `^…$` names exactly.
    ///
    /// # Errors
    /// When the pattern is too long.
    pub fn named(field: Field, pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_TEXT_BYTES {
            return Err(format!("must have at most {MAX_TEXT_BYTES} bytes"));
        }
        let condition = Condition::Match {
            negated: false,
            pattern: Pattern::lenient(pattern),
        };
        Test::new(field, condition)
            .map(Self::Test)
            .map_err(|expected| format!("can be asked with {expected}"))
    }

    /// What the grammar of tags in the ClearML protocol wants of a set, or of a field with
    /// one value: `["a", "-b", "__$and", "c"]`.
    ///
    /// # Errors
    /// The item at fault.
    pub fn list(field: &Field, items: &Json, pointer: &str) -> Result<Self, FilterError> {
        let list = tags::list(items, pointer, |item| match item {
            None => Test::new(field.clone(), Condition::Null { negated: false })
                .map(Self::Test)
                .map_err(|expected| format!("must be {expected}")),
            Some(text) => {
                let value = Value::read(field.kind(), text, true, Timestamp(0));
                let test = value.and_then(|value| {
                    let condition = Condition::Compare(Comparison::Equal, value);
                    Test::new(field.clone(), condition)
                });
                test.map(Self::Test).map_err(|expected| {
                    format!("must be {expected}, but it is `{}`", shortened(text, 40))
                })
            }
        });
        list.map(|list| match list {
            Self::Any(filters) => one_of(field, filters),
            other => other,
        })
    }
}

/// `a = 1 or a = 2` as `a in (1, 2)`: lists of ids may be long.
fn one_of(field: &Field, filters: Vec<Filter>) -> Filter {
    let value = |filter: &Filter| match filter {
        Filter::Test(test) => match test.condition() {
            Condition::Compare(Comparison::Equal, value) => Some(value.clone()),
            _ => None,
        },
        _ => None,
    };
    let values: Option<Vec<Value>> = filters.iter().map(value).collect();
    let test = values.map(|values| {
        let negated = false;
        Test::new(field.clone(), Condition::In { negated, values })
    });
    match test {
        Some(Ok(test)) => Filter::Test(test),
        _ => Filter::any(filters),
    }
}

fn condition(
    filter: &Map<String, Json>,
    key: &str,
    value: &Json,
    now: Timestamp,
) -> Result<Filter, FilterError> {
    let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
    let find = |table: &[(&str, &'static str)]| {
        let found = table.iter().find(|(name, _)| *name == key);
        found.map(|(_, field)| Field::column(Entity::Task, field))
    };
    if value.is_null() {
        return known(key, &pointer).map(|()| Filter::everything());
    }
    if let Some(field) = find(LISTS) {
        return Filter::list(&field, value, &pointer);
    }
    if let Some(field) = find(RANGES) {
        return range(&field, value, &pointer, now);
    }
    match key {
        "name" => patterns(&column("name"), value, &pointer),
        "project_name" => patterns(&column("project.path"), value, &pointer),
        "project" => project(filter, value, &pointer),
        "execution.queue" => tags::list(value, &pointer, |queue| match queue {
            None => {
                Test::new(column("queue"), Condition::Null { negated: false }).map(Filter::Test)
            }
            Some(queue) => {
                let by_id = equal("queue.id", queue)?;
                Ok(Filter::any(vec![equal("queue", queue)?, by_id]))
            }
        }),
        "search_text" => {
            let text = text(value, &pointer)?;
            let fields = ["name", "comment", "id"];
            let found = fields.map(|name| Filter::named(column(name), text));
            let found: Result<Vec<Filter>, String> = found.into_iter().collect();
            found.map(Filter::any).map_err(wrong(&pointer))
        }
        "_all_" | "_and_" => fields_with(value, &pointer, now).map(Filter::all),
        "_any_" | "_or_" => fields_with(value, &pointer, now).map(Filter::any),
        "order_by"
        | "page"
        | "page_size"
        | "only_fields"
        | "search_hidden"
        | "include_subprojects" => Ok(Filter::everything()),
        _ => match protocol_field(key) {
            Some(field @ Field::Parameter { .. }) => Filter::list(&field, value, &pointer),
            Some(field @ Field::HashedMetric { .. }) => range(&field, value, &pointer, now),
            _ => known(key, &pointer).map(|()| Filter::everything()),
        },
    }
}

fn column(name: &'static str) -> Field {
    Field::column(Entity::Task, name)
}

fn equal(name: &'static str, text: &str) -> Result<Filter, String> {
    let value = Value::Text(text.to_owned());
    Test::new(column(name), Condition::Compare(Comparison::Equal, value)).map(Filter::Test)
}

fn wrong(pointer: &str) -> impl Fn(String) -> FilterError {
    let pointer = pointer.to_owned();
    move |message| FilterError::new(&pointer, message)
}

/// Refuses a key that nothing is known of.
fn known(key: &str, pointer: &str) -> Result<(), FilterError> {
    let tables = [LISTS, RANGES].concat();
    let names = tables
        .iter()
        .map(|(name, _)| *name)
        .chain(OTHERS.iter().copied());
    let names: Vec<&str> = names.collect();
    if names.contains(&key) || protocol_field(key).is_some() {
        return Ok(());
    }
    let short = shortened(key, 80);
    let message = match nearest(&short, names.iter().copied()) {
        Some(near) => format!("is not known; did you mean `{near}`?"),
        None => format!("is not known; the keys are {}", names.join(", ")),
    };
    Err(FilterError::new(pointer, message))
}

/// A field by its name in the protocol, or else by its name in queries.
fn protocol_field(name: &str) -> Option<Field> {
    if let Some(parameter) = name.strip_prefix("hyperparams.") {
        let (section, name) = parameter.split_once('.')?;
        let name = name.strip_suffix(".value").unwrap_or(name);
        return Some(Field::Parameter {
            section: section.to_owned(),
            name: name.to_owned(),
        });
    }
    let renamed = PROTOCOL_NAMES
        .iter()
        .find(|(protocol, _)| *protocol == name);
    let name = renamed.map_or(name, |(_, field)| field);
    Field::parse(Entity::Task, name).ok()
}

fn named_field(entity: Entity, name: &str, pointer: &str) -> Result<Field, FilterError> {
    let field = match entity {
        Entity::Task => protocol_field(name).ok_or(()),
        _ => Err(()),
    };
    field
        .or_else(|()| Field::parse(entity, name))
        .map_err(|expected| {
            let short = shortened(name, 80);
            FilterError::new(pointer, format!("must be {expected}, but it is `{short}`"))
        })
}

/// One pattern, or a list of which any may be found.
pub(crate) fn patterns(field: &Field, value: &Json, pointer: &str) -> Result<Filter, FilterError> {
    let Json::Array(items) = value else {
        let pattern = text(value, pointer)?;
        return Filter::named(field.clone(), pattern).map_err(wrong(pointer));
    };
    let mut any = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        let pattern = text(item, &pointer)?;
        any.push(Filter::named(field.clone(), pattern).map_err(wrong(&pointer))?);
    }
    Ok(match any.is_empty() {
        true => Filter::everything(),
        false => Filter::any(any),
    })
}

/// Projects by id or by path.
fn project(filter: &Map<String, Json>, value: &Json, pointer: &str) -> Result<Filter, FilterError> {
    let below = flag(filter, "include_subprojects")?;
    let by_path = if below { "project" } else { "project.path" };
    tags::list(value, pointer, |project| match project {
        None => Err("must be a project's id or path".to_owned()),
        Some(project) => {
            let by_id = equal("project.id", project)?;
            Ok(Filter::any(vec![by_id, equal(by_path, project)?]))
        }
    })
}

/// `{"fields": […], "pattern": "…"}`, or `{"fields": […], "datetime": […]}`: one filter for
/// each field.
fn fields_with(value: &Json, pointer: &str, now: Timestamp) -> Result<Vec<Filter>, FilterError> {
    let Some(object) = value.as_object() else {
        let message = "must be an object with `fields` and `pattern`";
        return Err(FilterError::new(pointer, message));
    };
    if let Some(unknown) = object
        .keys()
        .find(|key| !["fields", "pattern", "datetime"].contains(&key.as_str()))
    {
        let pointer = format!("{pointer}/{}", shortened(unknown, 80));
        let message = "is not known; the keys are `fields`, `pattern` and `datetime`";
        return Err(FilterError::new(&pointer, message));
    }
    let fields_pointer = format!("{pointer}/fields");
    let fields = match object.get("fields") {
        Some(Json::Array(fields)) if !fields.is_empty() => fields,
        _ => {
            let message = "must be a list of at least one field";
            return Err(FilterError::new(&fields_pointer, message));
        }
    };
    let mut filters = Vec::new();
    for (index, name) in fields.iter().enumerate() {
        let here = format!("{fields_pointer}/{index}");
        let field = named_field(Entity::Task, text(name, &here)?, &here)?;
        match (object.get("pattern"), object.get("datetime")) {
            (Some(pattern), None) => {
                let pattern = text(pattern, &format!("{pointer}/pattern"))?;
                filters.push(Filter::named(field, pattern).map_err(wrong(&here))?);
            }
            (None, Some(dates)) => {
                filters.push(range(&field, dates, &format!("{pointer}/datetime"), now)?);
            }
            _ => {
                let message = "must have one of `pattern` and `datetime`";
                return Err(FilterError::new(pointer, message));
            }
        }
    }
    Ok(filters)
}

/// `[least, greatest]` with null for no bound, or comparisons like `">=2026-01-31"`, one or
/// a list of which all must hold.
fn range(
    field: &Field,
    value: &Json,
    pointer: &str,
    now: Timestamp,
) -> Result<Filter, FilterError> {
    if !field.kind().is_ordered() {
        let message = format!("`{field}` has no order, so it has no range");
        return Err(FilterError::new(pointer, message));
    }
    let items = match value {
        Json::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    let is_comparison = |item: &Json| {
        item.as_str()
            .is_some_and(|text| text.starts_with(['<', '>', '=']))
    };
    let is_range = value.is_array() && !items.iter().any(is_comparison);
    if is_range && items.len() != 2 {
        let message = "must be `[least, greatest]` with null for no bound, or comparisons like `\">=2026-01-31\"`";
        return Err(FilterError::new(pointer, message));
    }
    let mut filters = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let here = match value {
            Json::Array(_) => format!("{pointer}/{index}"),
            _ => pointer.to_owned(),
        };
        let raw = match item {
            Json::Null => continue,
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            _ => return Err(FilterError::new(&here, "must be a text, a number or null")),
        };
        let (comparison, raw) = if is_range {
            let bounds = [Comparison::GreaterOrEqual, Comparison::LessOrEqual];
            (bounds[index], raw.as_str())
        } else {
            comparison(&raw)
        };
        let value = Value::read(field.kind(), raw.trim(), false, now);
        let test =
            value.and_then(|value| Test::new(field.clone(), Condition::Compare(comparison, value)));
        filters.push(test.map(Filter::Test).map_err(|expected| {
            let raw = shortened(raw, 40);
            FilterError::new(&here, format!("must be {expected}, but it is `{raw}`"))
        })?);
    }
    Ok(Filter::all(filters))
}

fn comparison(text: &str) -> (Comparison, &str) {
    for (prefix, comparison) in [
        (">=", Comparison::GreaterOrEqual),
        (">", Comparison::Greater),
        ("<=", Comparison::LessOrEqual),
        ("<", Comparison::Less),
        ("==", Comparison::Equal),
        ("=", Comparison::Equal),
    ] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return (comparison, rest);
        }
    }
    (Comparison::Equal, text)
}

/// The fields of `order_by`: names of the protocol or of queries, `-` in front for descending.
pub(crate) fn order(entity: Entity, filter: &Map<String, Json>) -> Result<Vec<Order>, FilterError> {
    let items = match filter.get("order_by") {
        None | Some(Json::Null) => return Ok(Vec::new()),
        Some(Json::Array(items)) => items.clone(),
        Some(single) => vec![single.clone()],
    };
    if items.len() > MAX_ORDERS {
        let message = format!(
            "must have at most {MAX_ORDERS} fields, but has {}",
            items.len()
        );
        return Err(FilterError::new("/order_by", message));
    }
    let mut order = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let pointer = format!("/order_by/{index}");
        let name = text(item, &pointer)?;
        let (name, direction) = match name.strip_prefix('-') {
            Some(name) => (name, Direction::Descending),
            None => (name, Direction::Ascending),
        };
        let field = named_field(entity, name, &pointer)?;
        if field.kind().is_set() {
            let message = format!("`{field}` is a set, which has no order");
            return Err(FilterError::new(&pointer, message));
        }
        order.push(Order { field, direction });
    }
    Ok(order)
}

/// A list of texts, or one text for a list of one.
pub(crate) fn texts(
    filter: &Map<String, Json>,
    key: &str,
) -> Result<Option<Vec<String>>, FilterError> {
    let items = match filter.get(key) {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Array(items)) => items.as_slice(),
        Some(single) => std::slice::from_ref(single),
    };
    let mut texts = Vec::new();
    for (index, item) in items.iter().enumerate() {
        texts.push(text(item, &format!("/{key}/{index}"))?.to_owned());
    }
    Ok(Some(texts))
}

pub(crate) fn flag(filter: &Map<String, Json>, key: &str) -> Result<bool, FilterError> {
    match filter.get(key) {
        None | Some(Json::Null) => Ok(false),
        Some(Json::Bool(flag)) => Ok(*flag),
        Some(other) => {
            let message = format!("must be true or false, but it is {}", brief(other));
            Err(FilterError::new(&format!("/{key}"), message))
        }
    }
}

pub(crate) fn whole(
    filter: &Map<String, Json>,
    key: &str,
    most: u64,
) -> Result<Option<u64>, FilterError> {
    match filter.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if number <= most => Ok(Some(number)),
            _ => {
                let bound = match most {
                    u64::MAX => String::new(),
                    most => format!(" of at most {most}"),
                };
                let found = brief(value);
                let message = format!("must be a whole number{bound}, but it is {found}");
                Err(FilterError::new(&format!("/{key}"), message))
            }
        },
    }
}

pub(crate) fn text<'a>(value: &'a Json, pointer: &str) -> Result<&'a str, FilterError> {
    let wrong = || {
        FilterError::new(
            pointer,
            format!("must be a text, but it is {}", brief(value)),
        )
    };
    let text = value.as_str().ok_or_else(wrong)?;
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("must have at most {MAX_TEXT_BYTES} bytes");
        return Err(FilterError::new(pointer, message));
    }
    Ok(text)
}

fn brief(value: &Json) -> String {
    shortened(&value.to_string(), 40)
}

pub(crate) fn check_size(filter: &Filter) -> Result<(), FilterError> {
    let tests = filter.tests();
    let values = tests.iter().map(|test| match test.condition() {
        Condition::In { values, .. } => values.len(),
        _ => 1,
    });
    let values: usize = values.sum();
    if values > MAX_VALUES {
        let message = format!("must have at most {MAX_VALUES} values, but has {values}");
        return Err(FilterError::new("", message));
    }
    if tests.len() > MAX_TESTS {
        let message = format!(
            "must have at most {MAX_TESTS} conditions, but has {}",
            tests.len()
        );
        return Err(FilterError::new("", message));
    }
    Ok(())
}
