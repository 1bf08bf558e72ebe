//! Loads all that a data set holds.

use serde_json::{Value, json};
use trainshed_sdk::augment::Moments;
use trainshed_sdk::dataset::{Column, ColumnKind, ImageOptions, Table};
use trainshed_sdk::{DType, Dataset, Failure, Tensor};

/// What each column of each table is once it is loaded.
pub(crate) fn load(dataset: &Dataset) -> Result<Value, Failure> {
    let mut tables = serde_json::Map::new();
    for table in dataset.tables()? {
        let mut columns = serde_json::Map::new();
        for column in &table.columns {
            columns.insert(column.name.clone(), load_column(&table, column)?);
        }
        tables.insert(table.path.clone(), Value::Object(columns));
    }
    Ok(Value::Object(tables))
}

fn load_column(table: &Table, column: &Column) -> Result<Value, Failure> {
    let name = column.name.as_str();
    Ok(match column.kind {
        ColumnKind::Integer | ColumnKind::Number => sum_of(&table.load_array(name, DType::F32)?)?,
        ColumnKind::Array => {
            let array = table.load_array(name, DType::F32)?;
            let rows: Vec<u32> = (0..).take(table.rows).collect();
            let moments = Moments::of(&array, &rows)?;
            json!({ "shape": array.shape(), "mean": moments.mean })
        }
        ColumnKind::Text => {
            let classes = table.load_classes(name)?;
            let again = table.load_classes_of(name, &classes.vocabulary)?;
            json!({
                "texts": table.texts(name, 0, 2)?,
                "classes": classes.vocabulary,
                "indices": classes.indices.to_vec::<i32>()?,
                "again": again.to_vec::<i32>()? == classes.indices.to_vec::<i32>()?,
            })
        }
        ColumnKind::Image => {
            let options = ImageOptions {
                size: Some((1, 1)),
                channels: Some(3),
            };
            let images = table.load_images(name, options)?;
            json!({ "shape": images.shape(), "pixels": images.to_vec::<u8>()? })
        }
        ColumnKind::Other => {
            let refused = table.load_array(name, DType::F32).map(drop);
            json!(refused.map_err(|error| error.to_string()))
        }
    })
}

/// The sum of what is no NaN, and how many there are.
fn sum_of(tensor: &Tensor) -> Result<Value, Failure> {
    let numbers = tensor.to_vec::<f32>()?;
    let known = numbers.iter().filter(|number| !number.is_nan());
    let sum: f32 = known.clone().sum();
    Ok(json!({ "shape": tensor.shape(), "sum": sum, "known": known.count() }))
}
