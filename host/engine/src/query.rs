//! Queries: what was found, as JSON or as a file.

use async_stream::try_stream;
use bytes::Bytes;
use futures::Stream;
use serde_json::{Map, Value as Json, json};
use trainshed_core::TaskId;
use trainshed_core::query::{
    Cell, Comparison, Condition, Entity, Field, Filter, Kind, MAX_LIMIT, Pattern, Query, Request,
    RequestError, Test, Value,
};
use trainshed_core::view::{Page, Results, TaskQuery, TaskView};
use trainshed_export::{Column, ExportError, Format, Writer, to_json};
use trainshed_store::{Part, QueryError, StoreError, Workspace};

use crate::engine::Engine;

/// A query whose result is wanted as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// What the query is about.
    pub entity: Entity,
    /// Which ones, and in which order.
    pub query: Query,
    /// What is in the file.
    pub content: ExportContent,
    /// What the file is.
    pub format: Format,
}

/// What an export has of what a query found.
#[derive(Debug, Clone, PartialEq)]
pub enum ExportContent {
    /// A row for each, with its id and these fields.
    Fields(Vec<Field>),
    /// A row for each point of these curves of each task, by title and series; of all curves
    /// when there is none.
    Points(Vec<(String, String)>),
}

/// Why an export did not begin, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailure {
    /// The query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The file.
    #[error(transparent)]
    File(#[from] ExportError),
}

impl From<StoreError> for ExportFailure {
    fn from(error: StoreError) -> Self {
        Self::Query(QueryError::Store(error))
    }
}

/// Points that are handed to the writer at once.
const POINTS_AT_ONCE: usize = 10_000;

/// What an export of tasks has when nothing else is asked for; of other things it has every
/// field.
const TASK_FIELDS: [&str; 15] = [
    "name",
    "project.path",
    "type",
    "status",
    "tags",
    "user",
    "comment",
    "plugin",
    "plugin.version",
    "dataset",
    "last_iteration",
    "created",
    "started",
    "completed",
    "last_update",
];

/// The fields of an export that names none.
pub fn default_fields(entity: Entity) -> Vec<Field> {
    match entity {
        Entity::Task => TASK_FIELDS.map(|name| Field::column(entity, name)).to_vec(),
        // The path of a project is both the name and what lies below.
        other => other
            .columns()
            .iter()
            .filter(|column| column.name != "id" && column.kind != Kind::Project)
            .map(Field::Column)
            .collect(),
    }
}

impl Engine {
    /// Reads the JSON of a request about `entity`.
    ///
    /// # Errors
    /// The first part that cannot be used.
    pub fn read_request(&self, entity: Entity, body: &Json) -> Result<Request, RequestError> {
        Request::parse(entity, body, self.now())
    }

    /// Reads the text of a query, which is a parameter `name` of a call.
    ///
    /// # Errors
    /// Where and why it is no query.
    pub fn read_query(
        &self,
        entity: Entity,
        text: &str,
        name: &str,
    ) -> Result<Request, RequestError> {
        Request::of_text(entity, text, name, self.now())
    }

    /// A page of the tasks that fit a query, and the rest of a list's parameters.
    ///
    /// # Errors
    /// When `list.after` is not the `next` of a page of this order.
    pub async fn tasks_by(
        &self,
        workspace: &Workspace,
        query: Query,
        list: TaskQuery,
    ) -> Result<Page<TaskView>, QueryError> {
        let column = |name| Field::column(Entity::Task, name);
        let equal = |name, text: &str| {
            let value = Value::Text(text.to_owned());
            let condition = Condition::Compare(Comparison::Equal, value);
            Test::new(column(name), condition).map(Filter::Test)
        };
        let mut filters = vec![Ok(query.filter)];
        if !list.state.is_empty() {
            let states = list.state.iter();
            let states: Result<_, String> = states
                .map(|state| equal("status", state.as_str()))
                .collect();
            filters.push(states.map(Filter::any));
        }
        if let Some(project) = &list.project {
            filters.push(equal("project", project));
        }
        if let Some(name) = &list.name {
            let pattern = Pattern::containing(name);
            let negated = false;
            let test = Test::new(column("name"), Condition::Match { negated, pattern });
            filters.push(test.map(Filter::Test));
        }
        let filters: Result<Vec<Filter>, String> = filters.into_iter().collect();
        let query = Query {
            filter: Filter::all(filters.expect("states, projects and names can be asked that")),
            order: query.order,
        };
        let part = Part {
            limit: list.limit.clamp(1, MAX_LIMIT),
            after: list.after.as_deref(),
            ..Part::default()
        };
        let found = self
            .store
            .find(workspace, Entity::Task, &query, part)
            .await?;
        let items = self.store.tasks_of(workspace, &found.ids).await;
        Ok(Page {
            items: items.map_err(QueryError::Store)?,
            next: found.next,
        })
    }

    /// A page of what fits a request, each as the JSON of its view, or as an object of the
    /// fields that were asked for.
    ///
    /// # Errors
    /// When `after` is not the `next` of a page of this order.
    pub async fn search(
        &self,
        workspace: &Workspace,
        entity: Entity,
        request: &Request,
    ) -> Result<Results, QueryError> {
        let part = Part {
            limit: request.limit.min(MAX_LIMIT),
            after: request.after.as_deref(),
            skip: request.skip,
            with_total: request.with_total,
        };
        let found = self.store.find(workspace, entity, &request.query, part);
        let found = found.await?;
        let items = match (&request.fields, entity) {
            (Some(fields), _) => self.objects(workspace, entity, &found.ids, fields).await,
            (None, Entity::Project) => {
                let fields = default_fields(entity);
                self.objects(workspace, entity, &found.ids, &fields).await
            }
            (None, _) => self.views(workspace, entity, &found.ids).await,
        };
        let mut items = items.map_err(QueryError::Store)?;
        if let Some(paths) = &request.only_fields {
            for item in &mut items {
                *item = only(item, paths);
            }
        }
        Ok(Results {
            items,
            next: found.next,
            total: found.total,
        })
    }

    /// The bytes of an export, page by page. The first piece says whether there is one.
    pub fn export(
        &self,
        workspace: Workspace,
        export: Export,
    ) -> impl Stream<Item = Result<Bytes, ExportFailure>> + Send + 'static {
        let engine = self.clone();
        try_stream! {
            let mut writer = Writer::new(export.format, columns(export.entity, &export.content))?;
            let mut after: Option<String> = None;
            loop {
                let part = Part {
                    limit: MAX_LIMIT,
                    after: after.as_deref(),
                    ..Part::default()
                };
                let found = engine.store.find(&workspace, export.entity, &export.query, part);
                let found = found.await?;
                match &export.content {
                    ExportContent::Fields(fields) => {
                        let rows = engine.rows(&workspace, export.entity, &found.ids, fields);
                        yield Bytes::from(writer.write(&rows.await?)?);
                    }
                    ExportContent::Points(curves) => {
                        for id in &found.ids {
                            for (title, series) in engine.curves(&workspace, id, curves).await? {
                                let rows = engine.points_of(&workspace, id, &title, &series);
                                for rows in rows.await?.chunks(POINTS_AT_ONCE) {
                                    yield Bytes::from(writer.write(rows)?);
                                }
                            }
                        }
                        yield Bytes::new();
                    }
                }
                after = found.next;
                if after.is_none() {
                    break;
                }
            }
            yield Bytes::from(writer.finish()?);
        }
    }

    /// The JSON of views, in the order of `ids`. What has gone meanwhile is left out.
    async fn views(
        &self,
        workspace: &Workspace,
        entity: Entity,
        ids: &[String],
    ) -> Result<Vec<Json>, StoreError> {
        let mut views = Vec::new();
        match entity {
            Entity::Task => {
                let tasks = self.store.tasks_of(workspace, ids).await?;
                views.extend(tasks.iter().map(|task| json!(task)));
            }
            Entity::Model => {
                for id in ids.iter().filter_map(|id| id.parse().ok()) {
                    let model = self.store.model(workspace, id).await?;
                    views.extend(model.map(|model| json!(model)));
                }
            }
            Entity::Dataset => {
                for id in ids.iter().filter_map(|id| id.parse().ok()) {
                    let dataset = self.store.dataset(workspace, id).await?;
                    views.extend(dataset.map(|mut dataset| {
                        dataset.files = None;
                        json!(dataset)
                    }));
                }
            }
            Entity::Project => {}
        }
        Ok(views)
    }

    async fn objects(
        &self,
        workspace: &Workspace,
        entity: Entity,
        ids: &[String],
        fields: &[Field],
    ) -> Result<Vec<Json>, StoreError> {
        let cells = self.store.cells(workspace, entity, ids, fields).await?;
        let objects = ids.iter().zip(cells).map(|(id, cells)| {
            let mut object = Map::new();
            object.insert("id".to_owned(), to_json(&id_cell(entity, id)));
            for (field, cell) in fields.iter().zip(&cells) {
                object.insert(field.to_string(), to_json(cell));
            }
            Json::Object(object)
        });
        Ok(objects.collect())
    }

    /// Cells of an export: the id, then the fields.
    async fn rows(
        &self,
        workspace: &Workspace,
        entity: Entity,
        ids: &[String],
        fields: &[Field],
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        let cells = self.store.cells(workspace, entity, ids, fields).await?;
        let rows = ids.iter().zip(cells);
        Ok(rows
            .map(|(id, cells)| [vec![id_cell(entity, id)], cells].concat())
            .collect())
    }

    /// The curves of a task that an export has.
    async fn curves(
        &self,
        workspace: &Workspace,
        id: &str,
        wanted: &[(String, String)],
    ) -> Result<Vec<(String, String)>, StoreError> {
        let Ok(task) = id.parse::<TaskId>() else {
            return Ok(Vec::new());
        };
        let curves = self.store.series(workspace, &task).await?;
        let curves = curves.into_iter().map(|curve| (curve.title, curve.series));
        Ok(curves
            .filter(|curve| wanted.is_empty() || wanted.contains(curve))
            .collect())
    }

    async fn points_of(
        &self,
        workspace: &Workspace,
        id: &str,
        title: &str,
        series: &str,
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        let Ok(task) = id.parse::<TaskId>() else {
            return Ok(Vec::new());
        };
        let curve = (title, series);
        let all = self.store.points(workspace, &task, curve, 0, usize::MAX);
        let points = all.await?.points;
        let rows = points.view();
        let row = |index: usize| {
            vec![
                Cell::Text(id.to_owned()),
                Cell::Text(title.to_owned()),
                Cell::Text(series.to_owned()),
                Cell::Integer(i64::try_from(rows.steps()[index]).unwrap_or(i64::MAX)),
                Cell::Integer(rows.times()[index]),
                Cell::Real(rows.values()[index]),
            ]
        };
        Ok((0..rows.len()).map(row).collect())
    }
}

fn id_cell(entity: Entity, id: &str) -> Cell {
    match Field::column(entity, "id").kind() {
        Kind::Integer => id.parse().map_or(Cell::Missing, Cell::Integer),
        _ => Cell::Text(id.to_owned()),
    }
}

fn columns(entity: Entity, content: &ExportContent) -> Vec<Column> {
    let column = |name: String, kind| Column { name, kind };
    match content {
        ExportContent::Fields(fields) => {
            let mut columns = vec![column("id".to_owned(), Field::column(entity, "id").kind())];
            columns.extend(
                fields
                    .iter()
                    .map(|field| column(field.to_string(), field.kind())),
            );
            columns
        }
        ExportContent::Points(_) => [
            ("task", Kind::Text),
            ("title", Kind::Text),
            ("series", Kind::Text),
            ("iteration", Kind::Integer),
            ("time", Kind::Time),
            ("value", Kind::Real),
        ]
        .map(|(name, kind)| column(name.to_owned(), kind))
        .to_vec(),
    }
}

/// The id of an object, and the parts of it that are named by dotted paths.
fn only(item: &Json, paths: &[String]) -> Json {
    let mut result = Map::new();
    for path in std::iter::once("id").chain(paths.iter().map(String::as_str)) {
        let names: Vec<&str> = path.split('.').collect();
        let mut found = Some(item);
        for name in &names {
            found = found.and_then(|found| found.get(name));
        }
        if let Some(found) = found {
            put(&mut result, &names, found);
        }
    }
    Json::Object(result)
}

fn put(object: &mut Map<String, Json>, names: &[&str], value: &Json) {
    match names {
        [] => {}
        [name] => {
            object.insert((*name).to_owned(), value.clone());
        }
        [name, rest @ ..] => {
            let inner = object.entry(*name).or_insert_with(|| json!({}));
            if let Json::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_keeps_the_id_and_the_named_parts() {
        let item =
            json!({"id": "x", "name": "n", "plugin": {"name": "p", "version": "1"}, "tags": []});
        let paths = ["plugin.name", "tags", "nothing.here"].map(str::to_owned);
        assert_eq!(
            only(&item, &paths),
            json!({"id": "x", "plugin": {"name": "p"}, "tags": []})
        );
        let whole = ["plugin".to_owned(), "plugin.name".to_owned()];
        assert_eq!(only(&item, &whole)["plugin"]["version"], "1");
    }
}
