//! Reading fields of what a query found.

use std::collections::{BTreeSet, HashMap};

use sqlx::Row as _;
use sqlx::any::AnyRow;
use trainshed_core::query::{Cell, Entity, Field, Kind as FieldKind};

use super::source::{Other, Source, source};
use super::sql::Statement;
use crate::database::Store;
use crate::error::StoreError;
use crate::workspace::Workspace;

impl Store {
    /// What the rows with `ids` have in `fields`: one list of cells for each id, one cell for
    /// each field. What has gone meanwhile has nothing in all of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cells(
        &self,
        workspace: &Workspace,
        entity: Entity,
        ids: &[String],
        fields: &[Field],
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        let failed = StoreError::database;
        let action = "read what a query found";
        let places: HashMap<&str, usize> = ids
            .iter()
            .enumerate()
            .map(|(place, id)| (id.as_str(), place))
            .collect();
        let mut table = vec![vec![Cell::Missing; fields.len()]; ids.len()];
        let mut own = Vec::new();
        for (column, field) in fields.iter().enumerate() {
            match source(entity, field) {
                Source::Own { sql, .. } => own.push((column, field.kind(), sql)),
                Source::Other(other) => {
                    let statement =
                        Statement::other_cells(self.kind, workspace, entity, &other, ids);
                    let rows = statement.fetch_all(&self.reader).await;
                    for row in rows.map_err(failed(action))? {
                        let id: String = row.try_get(0).map_err(failed(action))?;
                        let Some(place) = places.get(id.as_str()) else {
                            continue;
                        };
                        let cell = &mut table[*place][column];
                        add(cell, &row, field.kind(), &other).map_err(failed(action))?;
                    }
                }
            }
        }
        let expressions: Vec<&str> = own.iter().map(|(_, _, sql)| sql.as_str()).collect();
        let statement = Statement::cells(self.kind, workspace, entity, &expressions, ids);
        let rows = statement.fetch_all(&self.reader).await;
        for row in rows.map_err(failed(action))? {
            let id: String = row.try_get(0).map_err(failed(action))?;
            let Some(place) = places.get(id.as_str()) else {
                continue;
            };
            for (index, (column, kind, _)) in own.iter().enumerate() {
                table[*place][*column] = cell(&row, 1 + index, *kind).map_err(failed(action))?;
            }
        }
        Ok(table)
    }
}

fn cell(row: &AnyRow, column: usize, kind: FieldKind) -> Result<Cell, sqlx::Error> {
    let cell = match kind {
        FieldKind::Integer | FieldKind::Time => {
            row.try_get::<Option<i64>, _>(column)?.map(Cell::Integer)
        }
        FieldKind::Real => row.try_get::<Option<f64>, _>(column)?.map(Cell::Real),
        _ => row.try_get::<Option<String>, _>(column)?.map(Cell::Text),
    };
    Ok(cell.unwrap_or(Cell::Missing))
}

/// Adds the value of one row of another table to a cell.
fn add(cell: &mut Cell, row: &AnyRow, kind: FieldKind, other: &Other) -> Result<(), sqlx::Error> {
    match kind {
        FieldKind::Texts => {
            let mut texts = match std::mem::replace(cell, Cell::Missing) {
                Cell::Texts(texts) => texts,
                _ => BTreeSet::new(),
            };
            texts.insert(row.try_get(1)?);
            *cell = Cell::Texts(texts);
        }
        FieldKind::Integers => {
            let mut numbers = match std::mem::replace(cell, Cell::Missing) {
                Cell::Integers(numbers) => numbers,
                _ => BTreeSet::new(),
            };
            numbers.insert(row.try_get(1)?);
            *cell = Cell::Integers(numbers);
        }
        FieldKind::Typed => {
            let number = match other.is_typed {
                true => row.try_get(2)?,
                false => None,
            };
            *cell = Cell::Typed {
                text: row.try_get(1)?,
                number,
            };
        }
        _ => *cell = self::cell(row, 1, kind)?,
    }
    Ok(())
}
