//! What the tests of all formats share.

use std::sync::atomic::AtomicBool;

use expect_test::Expect;
use tempfile::TempDir;
use trainshed_tensor::{Budget, DType, Tensor};

use crate::{Reader, Table, TableError};

pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

/// A data set of a test, with what its task may hold.
pub(crate) struct Files {
    pub(crate) folder: TempDir,
    pub(crate) budget: Budget,
}

impl Files {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        Self::with_budget(files, 64 << 20)
    }

    pub(crate) fn with_budget(files: &[(&str, &[u8])], bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Self {
            folder,
            budget: Budget::new(bytes),
        }
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader {
            folder: self.folder.path(),
            budget: &self.budget,
            stop: &NEVER,
        }
    }

    /// The only table.
    pub(crate) fn table(&self) -> Table {
        let mut tables = self.reader().survey().unwrap();
        assert_eq!(tables.len(), 1);
        tables.remove(0)
    }
}

/// Compares what the tables are, a line per column.
#[track_caller]
pub(crate) fn check_survey(files: &[(&str, &[u8])], expected: Expect) {
    let files = Files::new(files);
    let text = match files.reader().survey() {
        Ok(tables) => tables.iter().map(described).collect(),
        Err(error) => format!("{error:?}\n"),
    };
    expected.assert_eq(&text);
    assert_eq!(files.budget.used(), 0);
}

fn described(table: &Table) -> String {
    let mut text = format!("{} {}\n", table.path, table.rows);
    for column in &table.columns {
        let (kind, shape) = (column.kind, &column.shape);
        text += &format!(
            "    {}: {kind:?} ({}) {shape:?}\n",
            column.name, column.element
        );
    }
    text
}

/// Compares shape and bytes of a tensor, or the error.
#[track_caller]
pub(crate) fn check_tensor(loaded: Result<Tensor, TableError>, expected: Expect) {
    expected.assert_eq(&match loaded {
        Ok(tensor) => format!("{:?} {:?}", tensor.shape(), numbers(&tensor)),
        Err(error) => format!("{error:?}"),
    });
}

/// All elements, as numbers.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    let bytes = tensor.bytes();
    let elements = bytes.chunks_exact(tensor.dtype().size());
    elements
        .map(|element| match tensor.dtype() {
            DType::F32 => f32::from_le_bytes(element.try_into().unwrap()).into(),
            DType::I32 => i32::from_le_bytes(element.try_into().unwrap()).into(),
            DType::U8 | DType::Bool => element[0].into(),
            other => panic!("no test reads {other}"),
        })
        .collect()
}

/// Surveys damaged files, and loads all there is. An error is as good as a tensor; a panic, a
/// charge that is not given back and an allocation beyond the task's are not.
pub(crate) fn survive(name: &str, content: &[u8]) {
    let files = Files::with_budget(&[(name, content)], 16 << 20);
    let reader = files.reader();
    let Ok(tables) = reader.survey() else {
        assert_eq!(files.budget.used(), 0);
        return;
    };
    for table in &tables {
        for column in &table.columns {
            let name = &column.name;
            let _ = reader.load(table, std::slice::from_ref(name), DType::F32);
            let _ = reader.load_array(table, name, DType::F32);
            let _ = reader.load_images(table, name, crate::ImageOptions::default());
            let _ = reader.load_classes(table, name, None);
            let _ = reader.texts(table, name, 1, 3);
        }
    }
    assert_eq!(files.budget.used(), 0);
}

/// Feeds `content` with each of some hundreds of faults: cut off, or with a byte changed.
pub(crate) fn survive_damage(name: &str, content: &[u8]) {
    survive(name, content);
    let steps = content.len().div_ceil(80);
    for end in (0..content.len()).step_by(steps.max(1)) {
        survive(name, &content[..end]);
    }
    for place in (0..content.len()).step_by(steps.max(1)) {
        for change in [0xff, 0x01] {
            let mut damaged = content.to_vec();
            damaged[place] ^= change;
            survive(name, &damaged);
        }
    }
}
